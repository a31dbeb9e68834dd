"""The times in tokens: `iat` has a leeway of 60 seconds, since another machine may have signed; `exp` has none."""

import time
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import LoginSession
from accounts.tests.test_refresh import assert_refused, forged, refresh
from conftest import LoggedInClient

pytestmark = pytest.mark.django_db(transaction=True)

ME, PATIENTS = "/api/auth/me/", "/api/patients/"


def statuses(client: LoggedInClient, token: str) -> list[int]:
    """Of a request to the standard path and of two to the fast path, the second with the decoded token cached."""
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return [client.get(path).status_code for path in (ME, PATIENTS, PATIENTS)]


@pytest.mark.parametrize(("ahead", "status"), [(5, 200), (55, 200), (65, 401), (10**6, 401)])
def test_an_access_token_may_be_issued_at_most_a_minute_ahead(as_alice: LoggedInClient, ahead: int, status: int):
    token = forged(as_alice.tokens["access"], iat=int(time.time()) + ahead)
    assert statuses(as_alice, token) == [status] * 3


@pytest.mark.parametrize(("ahead", "status"), [(5, 200), (55, 200), (65, 401)])
def test_a_refresh_token_may_be_issued_at_most_a_minute_ahead(
    as_alice: LoggedInClient, anonymous: APIClient, ahead: int, status: int
):
    token = forged(as_alice.tokens["refresh"], iat=int(time.time()) + ahead)
    assert refresh(anonymous, token).status_code == status
    assert not LoginSession.objects.get().revoked_at


@pytest.mark.parametrize("since", [0, 1, 30, 3600])
def test_an_expired_token_has_no_leeway(as_alice: LoggedInClient, anonymous: APIClient, since: int):
    expired: dict[str, Any] = {"exp": int(time.time()) - since}
    assert statuses(as_alice, forged(as_alice.tokens["access"], **expired)) == [401] * 3
    assert_refused(refresh(anonymous, forged(as_alice.tokens["refresh"], **expired)))


def test_a_cached_token_expires_without_leeway(as_alice: LoggedInClient):
    token = forged(as_alice.tokens["access"], exp=int(time.time()) + 3)
    assert statuses(as_alice, token) == [200] * 3
    time.sleep(3.1)
    assert statuses(as_alice, token) == [401] * 3


@pytest.mark.parametrize("iat", ["soon", [], {}])
def test_an_iat_that_is_no_number_is_refused(as_alice: LoggedInClient, iat: Any):
    assert statuses(as_alice, forged(as_alice.tokens["access"], iat=iat)) == [401] * 3


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["9999999999", 10**30, float("inf"), float("nan"), [], {}])
def test_a_time_out_of_range_is_refused(as_alice: LoggedInClient, anonymous: APIClient, claim: str, value: Any):
    assert statuses(as_alice, forged(as_alice.tokens["access"], **{claim: value})) == [401] * 3
    assert_refused(refresh(anonymous, forged(as_alice.tokens["refresh"], **{claim: value})))
