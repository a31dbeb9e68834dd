"""The number of unsealed rows and the age of the last seal, as monitoring reads them."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from audit.backlog import seal_backlog
from conftest import LoggedInClient
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db


def test_the_backlog_counts_the_rows_since_the_last_seals(alice: User, as_alice: LoggedInClient) -> None:
    make_patient(alice)
    before = seal_backlog()
    assert before.unsealed_rows > 0
    assert before.seal_age_seconds is None
    call_command("seal_audit", stdout=StringIO(), stderr=StringIO())
    sealed = seal_backlog()
    assert sealed.unsealed_rows == 0
    assert sealed.seal_age_seconds is not None
    assert 0 <= sealed.seal_age_seconds < 60
    as_alice.get("/api/patients/")
    assert seal_backlog().unsealed_rows == 1
    with CaptureQueriesContext(
        connection,
    ) as queries:
        seal_backlog()
    assert len(queries) == 1


def test_the_count_is_bounded(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        make_patient(alice)
    monkeypatch.setattr("audit.backlog.MOST_COUNTED", 2)
    assert seal_backlog().unsealed_rows == 3  # of five patients two, and the one user
