"""The clock of an application's machine, or of the database server, jumps while both serve."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from django.conf import settings

from healthcare.embedded.home import Home
from healthcare.tests.crash import eventually
from healthcare.tests.faked_clock import FakedClock, needs_faketime
from healthcare.tests.live import LiveServer, serving
from healthcare.tests.memory_folder import temporary_folder
from healthcare.tests.postgres import SeparatePostgres

pytestmark = [needs_faketime, pytest.mark.slow]

PATIENTS, LOGIN = "/api/patients/", "/api/auth/login/"
WRONG = ("+2m", "-2m", "+1d", "-1d", "+3650d", "@1990-01-01 00:00:00")
ALICE = {"username": "alice", "password": "StrongPass123"}
REFUSED = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "detail": (
        "The clocks of the server and of its database differ; wait for the seconds of Retry-After, then repeat it."
    ),
}


class Instances:
    """Two servers on one database. `jumping` is the clock of the first, `database_clock` that of PostgreSQL."""

    def __init__(self, postgres: SeparatePostgres, first: LiveServer, second: LiveServer) -> None:
        self.postgres, self.first, self.second = postgres, first, second
        self.jumping: FakedClock
        self.database_clock: FakedClock

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        session = psycopg2.connect(self.postgres.url)
        try:
            with session, session.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            session.close()

    def manage(self, *arguments: str, clock: FakedClock | None = None) -> "subprocess.CompletedProcess[str]":
        environment = self.second.environment | (clock.environment if clock else {})
        command = [sys.executable, "-m", "django", *arguments]
        return subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def instances(migrated_home: Home) -> Iterator[Instances]:
    with temporary_folder() as folder:
        database_clock, jumping = FakedClock(folder / "database"), FakedClock(folder / "first")
        postgres = SeparatePostgres(folder, migrated_home)
        postgres.start(environment=database_clock.environment)
        environment: Any = jumping.environment
        try:
            with (
                serving(postgres.url, migrated=True, **environment) as first,
                serving(postgres.url, migrated=True) as second,
            ):
                found = Instances(postgres, first, second)
                found.jumping, found.database_clock = jumping, database_clock
                yield found
        finally:
            postgres.stop()


@pytest.fixture(scope="module")
def tokens(instances: Instances) -> dict[str, str]:
    return instances.second.register("alice")[1]


@pytest.fixture(autouse=True)
def right_clocks(instances: Instances) -> Iterator[None]:
    yield
    instances.jumping.set("+0")
    instances.database_clock.set("+0")
    eventually(lambda: failed_checks(instances.first) == failed_checks(instances.second) == [])


def failed_checks(server: LiveServer) -> list[str]:
    answer = server.call("GET", "/readyz")
    return [] if answer.status == 200 else list(answer.json["failed"])


def test_an_instance_whose_clock_is_wrong_answers_503_while_the_other_goes_on(
    instances: Instances, tokens: dict[str, str]
):
    first, second, token = instances.first, instances.second, tokens["access"]
    for time in WRONG:
        instances.jumping.set(time)
        assert failed_checks(first) == ["clock"], time
        key = {"Idempotency_Key": f"at {time}".encode().hex()}
        for method, path, body, headers in (
            ("GET", PATIENTS, None, {}),
            ("POST", PATIENTS, {"name": f"at {time}"}, key),
            ("POST", LOGIN, ALICE, {}),
            ("POST", "/api/auth/refresh/", {"refresh": tokens["refresh"]}, {}),
            ("GET", "/admin/", None, {}),
        ):
            answer = first.call(method, path, body, token, **headers)
            assert answer.json == REFUSED | {"request_id": answer.headers["X-Request-Id"]}, (time, path)
            assert int(answer.headers["Retry-After"]) > 0
        assert first.call("GET", "/healthz").status == 200
        assert failed_checks(second) == []
        created = [second.call("POST", PATIENTS, {"name": f"at {time}"}, token, **key) for _ in range(2)]
        assert [answer.status for answer in created] == [201, 201]
        assert created[0].json == created[1].json
    instances.jumping.set("+0")
    answer = first.call("POST", PATIENTS, {"name": f"at {WRONG[-1]}"}, token, **key)
    assert (answer.status, answer.json) == (201, created[0].json)
    created_once = "SELECT count(*), count(DISTINCT name) FROM patients_patient WHERE name LIKE 'at %'"
    assert instances.rows(created_once) == [(len(WRONG), len(WRONG))]
    eventually(lambda: failed_checks(first) == [])
    assert first.call("POST", "/api/auth/refresh/", {"refresh": tokens["refresh"]}).status == 200


def test_a_command_that_removes_by_age_refuses_a_wrong_clock(instances: Instances, tokens: dict[str, str]):
    instances.jumping.set("+3650d")
    sessions = instances.rows("SELECT count(*) FROM accounts_loginsession")
    tidied = instances.manage("tidy", clock=instances.jumping)
    instances.jumping.set("+0")
    assert tidied.returncode == 1
    assert tidied.stderr.startswith("CommandError: The clock of this machine is 3153")
    assert tidied.stderr.endswith("nothing was changed. Set the wrong one right, then run it again.\n")
    assert instances.rows("SELECT count(*) FROM accounts_loginsession") == sessions


@pytest.mark.parametrize("time", ["+1d", "-1d"])
def test_nothing_is_lost_or_out_of_order_when_the_clock_of_the_database_jumps_and_returns(
    instances: Instances, tokens: dict[str, str], time: str
):
    server, token = instances.second, tokens["access"]
    record = server.call("POST", PATIENTS, {"name": "Ada"}, token).json["id"]
    path = f"{PATIENTS}{record}/"
    written = ["Ada"]

    def write() -> int:
        name = f"Ada {len(written)}"
        status = server.call("PATCH", path, {"name": name}, token).status
        if status == 200:
            written.append(name)
        return status

    assert write() == 200
    instances.database_clock.set(time)
    statuses = []

    def is_refused() -> bool:
        statuses.append(write())  # at first most likely before the jump is noticed
        return statuses[-1] == 503

    eventually(is_refused)
    assert set(statuses) <= {200, 503}
    eventually(lambda: failed_checks(server) == failed_checks(instances.first) == ["clock"])
    instances.database_clock.set("+0")
    eventually(lambda: write() == 200)
    eventually(lambda: failed_checks(server) == failed_checks(instances.first) == [])

    # The history is in the order of the versions, and `updated_at` never goes back, whatever the clock showed.
    states = instances.rows(
        f"SELECT name, version, updated_at FROM patients_patientevent WHERE id = {record} ORDER BY pgh_id"  # noqa: S608
    )
    assert [(name, version) for name, version, _ in states] == [(name, n) for n, name in enumerate(written, 1)]
    assert [at for *_, at in states] == sorted(at for *_, at in states)
    history = server.call("GET", f"{path}history/", token=token)
    assert history.status == 200, history.json
    newest = [entry["changes"]["name"][1] for entry in history.json]
    assert newest == written[: -1 - len(newest) : -1]


def test_rows_that_were_dated_ahead_do_not_make_later_rows_look_inserted(instances: Instances, tokens: dict[str, str]):
    record = instances.second.call("POST", PATIENTS, {"name": "Ada"}, tokens["access"]).json["id"]
    change = f"UPDATE patients_patient SET name = name || '+' WHERE id = {record} RETURNING updated_at"  # noqa: S608
    instances.database_clock.set("+1d")
    [(ahead,)] = instances.rows(change)
    instances.database_clock.set("+0")
    for _ in range(2):
        assert instances.rows(change) == [(ahead,)]  # never before the version that it replaces
        sealed = instances.manage("seal_audit")
        assert sealed.returncode == 0, sealed.stderr
    verified = instances.manage("verify_audit", "--full")
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize("time", ["+2d", "-2d"])
def test_where_both_clocks_jump_users_log_in_again(instances: Instances, tokens: dict[str, str], time: str):
    first, second, token = instances.first, instances.second, tokens["access"]
    unseen = second.register()[1]["access"]  # a token that the first has verified before goes on working back then
    instances.database_clock.set(time)
    instances.jumping.set(time)
    eventually(lambda: failed_checks(first) == [] and failed_checks(second) == ["clock"])
    assert first.call("GET", PATIENTS, token=unseen).status == 401
    again = first.call("POST", LOGIN, ALICE)
    assert again.status == 200
    created = first.call("POST", PATIENTS, {"name": "Ada"}, again.json["access"])
    assert created.status == 201
    instances.database_clock.set("+0")
    instances.jumping.set("+0")
    eventually(lambda: failed_checks(first) == failed_checks(second) == [])
    for server in (first, second):  # the tokens from before work again
        path = f"{PATIENTS}{created.json['id']}/"
        assert server.call("GET", path, token=token).json == created.json
