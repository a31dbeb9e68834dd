"""A cached public answer is never older than the request."""

from functools import partial
from itertools import count
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import LoginSession, User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.fastpath import public_cache
from healthcare.tests.concurrent_calls import call_concurrently, until_run
from healthcare.tests.live import LiveServer

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/api/doctors/"


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    public_cache.answers.clear()


@pytest.fixture
def anyone(db: None, make_user: Any) -> APIClient:
    """An anonymous client whose first request has filled the cache."""
    make_doctor(make_user("staff"))
    client = APIClient()
    client.get(LIST)
    return client


def names(client: APIClient, path: str = LIST) -> list[str]:
    return [doctor["name"] for doctor in client.get(path).json()]


def statements(client: APIClient, path: str = LIST) -> list[str]:
    with CaptureQueriesContext(connection) as queries:
        assert client.get(path).status_code == 200
    return [query["sql"] for query in queries]


def test_an_unchanged_answer_costs_one_query_for_the_version(anyone: APIClient):
    first = anyone.get(LIST)
    (query,) = statements(anyone)
    assert '"doctors_doctor"' not in query
    assert "'doctors_doctor'" in query
    again = anyone.get(LIST)
    assert again.content == first.content
    assert again["X-Request-Id"] != first["X-Request-Id"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE doctors_doctor SET name = 'Changed'",
        "SET session_replication_role = replica; UPDATE doctors_doctor SET name = 'Changed'",
        "SET CONSTRAINTS ALL IMMEDIATE; UPDATE doctors_doctor SET name = 'Changed'",
        "UPDATE doctors_doctor SET phone = '1'; SAVEPOINT s; UPDATE doctors_doctor SET phone = '2'; "
        "ROLLBACK TO s; UPDATE doctors_doctor SET name = 'Changed'",
        "SAVEPOINT s; UPDATE doctors_doctor SET phone = '2'; SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK TO s; "
        "SET CONSTRAINTS ALL DEFERRED; UPDATE doctors_doctor SET name = 'Changed'",
    ],
)
def test_a_change_is_visible_once_it_is_committed(anyone: APIClient, other: Any, change: str):
    assert names(anyone) == ["Dr. Meera Rao"]
    other.cursor().execute(change)
    assert names(anyone) == ["Dr. Meera Rao"]
    assert len(statements(anyone)) == 1
    other.commit()
    assert names(anyone) == ["Changed"]


def test_every_kind_of_change_is_visible(anyone: APIClient, other: Any, make_user: Any):
    user = make_user("carol")
    make_doctor(user, name="Added")
    assert names(anyone) == ["Added", "Dr. Meera Rao"]
    Doctor.objects.filter(name="Added").end()
    assert names(anyone) == ["Dr. Meera Rao"]
    Doctor.objects.all().restore()
    assert names(anyone) == ["Added", "Dr. Meera Rao"]
    Doctor.objects.filter(name="Added").delete()
    assert names(anyone) == ["Dr. Meera Rao"]
    other.cursor().execute("TRUNCATE doctors_doctor CASCADE")
    other.commit()
    assert names(anyone) == []


def test_a_rolled_back_change_does_not_change_the_version(anyone: APIClient, other: Any):
    other.cursor().execute("UPDATE doctors_doctor SET name = 'Changed'")
    other.rollback()
    assert len(statements(anyone)) == 1
    assert names(anyone) == ["Dr. Meera Rao"]


def test_concurrent_changes_of_two_doctors_do_not_wait_for_each_other(anyone: APIClient, other: Any, alice: User):
    other.cursor().execute("UPDATE doctors_doctor SET name = 'Slowly'")
    make_doctor(alice, name="Meanwhile")  # a wait would end in a timeout
    assert names(anyone) == ["Meanwhile", "Dr. Meera Rao"]
    other.commit()
    assert names(anyone) == ["Meanwhile", "Slowly"]


def test_a_transaction_sees_its_own_changes(anyone: APIClient, alice: User):
    with transaction.atomic():
        make_doctor(alice, name="Not yet")
        assert names(anyone) == ["Not yet", "Dr. Meera Rao"]
        transaction.set_rollback(True)
    assert names(anyone) == ["Dr. Meera Rao"]


def test_each_page_and_host_is_cached_separately(anyone: APIClient, alice: User):
    for number in range(3):
        make_doctor(alice, name=f"Dr. {number}")
    for _ in range(2):
        assert names(anyone, "/api/doctors/?limit=2") == ["Dr. 2", "Dr. 1"]
        assert names(anyone, "/api/doctors/?limit=1") == ["Dr. 2"]
        links = [
            anyone.get("/api/doctors/?limit=1", headers={"Host": host})["Link"] for host in ("127.0.0.1", "localhost")
        ]
        assert [link.partition("/api")[0] for link in links] == ["<http://127.0.0.1", "<http://localhost"]


def test_an_ended_session_gets_no_cached_answer(anyone: APIClient, as_alice: LoggedInClient, alice: User):
    assert names(as_alice) == ["Dr. Meera Rao"]
    LoginSession.objects.filter(user=alice).revoke()
    assert as_alice.get(LIST).status_code == 401


def test_a_table_without_a_version_is_read_each_time(anyone: APIClient):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM fastpath_tableversion")
    for _ in range(2):
        assert len(statements(anyone)) == 2


def test_the_size_of_the_cache_is_bounded(anyone: APIClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(public_cache, "MAXIMUM_SIZE", 1000)  # bytes
    for limit in range(1, 10):
        anyone.get(f"/api/doctors/?limit={limit}")
    assert 0 < len(public_cache.answers.answers) < 6


def test_readers_do_not_wait_for_a_lock_on_the_table_of_versions(anyone: APIClient, other: Any):
    other.cursor().execute("LOCK fastpath_tableversion")
    assert names(anyone) == ["Dr. Meera Rao"]


def test_no_answer_is_older_than_an_earlier_one(live: LiveServer):
    """Sixteen concurrent clients: each changes its doctor and then reads its own change in the public answers."""
    _, tokens = live.register()
    doctors = [live.call("POST", LIST, {"name": f"Dr. {n}"}, tokens["access"]).json["id"] for n in range(16)]
    versions = count()

    def change_and_read(key: int) -> Any:
        name = f"Dr. {next(versions)}"
        changed = until_run(lambda: live.call("PATCH", f"/api/doctors/{key}/", {"name": name}, tokens["access"]))
        assert changed.status == 200, changed.body
        for path in (f"/api/doctors/{key}/", "/api/doctors/?limit=500"):
            seen = until_run(partial(live.call, "GET", path))
            assert seen.status == 200, (path, seen.status, seen.body)
            rows = seen.json if isinstance(seen.json, list) else [seen.json]
            assert name in {row["name"] for row in rows if row["id"] == key}
        return seen

    for _ in range(12):
        call_concurrently(*[partial(change_and_read, key) for key in doctors])


def test_a_filtered_list_is_not_cached_since_a_filter_may_depend_on_the_clock(anyone: APIClient):
    for _ in range(2):
        assert names(anyone, f"{LIST}?hospital=x") == []
    assert not any("hospital" in key[3] for key in public_cache.answers.answers)
