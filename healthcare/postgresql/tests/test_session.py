"""The limits of a session: timeouts that PostgreSQL enforces, and a watchdog for a server that enforces nothing."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg2
import pytest
from django.db import DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from psycopg2.sql import SQL

from healthcare.postgresql.base import MAX_OPENING, begin_request, end_request, open_within, share_among_hosts
from healthcare.postgresql.errors import ServerHungError
from healthcare.postgresql.session import Limits, set_timeouts

LIMITS = Limits(set_timeouts(statement="7s", lock="3s", idle="9s"), answer=1, connection=5)
SHOW = """SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
    current_setting('idle_in_transaction_session_timeout')"""
LIMITED, UNLIMITED = ("7s", "3s", "9s"), ("0", "0", "0")
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def database() -> Iterator[Any]:
    """Another connection of the tests' database, with limits."""
    other: Any = connection.copy()
    other.set_limits(Limits(**{**vars(LIMITS), "exceeded": False}))
    yield other
    other.close()
    with connection.cursor() as cursor:  # PostgreSQL goes on with a statement whose client was cut off
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'"
        )


def timeouts(database: Any, query: Any = SHOW) -> tuple[Any, ...]:
    with database.cursor() as cursor:
        cursor.execute(query)
        return tuple(cursor.fetchone())


def test_a_statement_outside_a_transaction_has_the_timeouts(database: Any):
    assert [timeouts(database, query) for query in (SHOW, SHOW.encode(), SQL(SHOW))] == [LIMITED] * 3


def test_every_statement_of_a_transaction_has_them_also_after_a_savepoint(database: Any):
    with database.cursor() as cursor:
        database.set_autocommit(False)
        cursor.execute("SAVEPOINT a")
        cursor.execute("ROLLBACK TO SAVEPOINT a")
        assert timeouts(database) == LIMITED
        database.rollback()
        assert timeouts(database) == LIMITED  # of the next transaction


def test_they_end_with_the_transaction_so_that_a_pooled_session_carries_none_away(database: Any):
    assert timeouts(database) == LIMITED
    database.set_limits(None)
    assert timeouts(database) == UNLIMITED


def test_many_rows_are_written_with_them(database: Any):
    with database.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE seen (number int, timeout text)")
        cursor.executemany("INSERT INTO seen VALUES (%s, current_setting('lock_timeout'))", [[1], [2]])
        cursor.execute("SELECT DISTINCT timeout FROM seen")
        assert cursor.fetchall() == [("3s",)]


def test_the_log_of_statements_does_not_show_them(database: Any):
    with CaptureQueriesContext(database) as captured:
        timeouts(database)
    assert [query["sql"] for query in captured] == [SHOW]


def test_only_web_requests_are_limited():
    assert timeouts(connection) == UNLIMITED
    begin_request()
    assert timeouts(connection) != UNLIMITED
    end_request()
    assert timeouts(connection) == UNLIMITED


def test_a_lock_and_a_slow_statement_end_by_the_timeouts_of_postgresql(database: Any):
    database.limits.timeouts = set_timeouts(statement="300ms", lock="100ms", idle="9s")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE accounts_attempts")
        with pytest.raises(OperationalError, match="lock timeout"):
            timeouts(database, "SELECT count(*), 1, 1 FROM accounts_attempts")
    with pytest.raises(OperationalError, match="statement timeout"):
        timeouts(database, "SELECT pg_sleep(60)")
    assert database.is_usable()


@pytest.mark.parametrize("within_transaction", [False, True])
def test_a_session_whose_server_does_not_answer_is_cut_off(database: Any, within_transaction: bool):
    database.set_autocommit(not within_transaction)
    with pytest.raises(OperationalError) as caught:
        timeouts(database, "SELECT pg_sleep(60)")
    assert isinstance(caught.value.__cause__, ServerHungError)
    assert not database.is_usable()
    # The same request does not wait once more; the next one opens a new session.
    database.close()
    with pytest.raises(OperationalError):
        timeouts(database)
    database.limits.exceeded = False
    assert timeouts(database) == LIMITED


def test_a_commit_is_cut_off_too(database: Any):
    with database.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE slow (number int)")
        cursor.execute(
            "CREATE FUNCTION pg_temp.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60);"
            " RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION pg_temp.wait()"
        )
        database.set_autocommit(False)
        cursor.execute("INSERT INTO slow VALUES (1)")
    database.limits.timeouts = ""
    with pytest.raises(OperationalError):
        database.commit()


def test_sessions_that_wait_within_their_limit_or_have_none_are_left_alone(database: Any):
    database.limits.answer = 60
    assert timeouts(database, "SELECT pg_sleep(1.5), 1") == ("", 1)
    database.set_limits(None)
    assert timeouts(database, "SELECT pg_sleep(1.5), 1") == ("", 1)


def test_a_server_that_accepts_connections_and_never_answers(database: Any):
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        database.limits.connection = 0.5
        began = time.monotonic()
        database.open_session = lambda _: psycopg2.connect(
            host="127.0.0.1", port=frozen.getsockname()[1], connect_timeout=20
        )
        with pytest.raises(OperationalError):
            database.ensure_connection()
        assert time.monotonic() - began < 15


def test_a_session_that_was_opened_too_late_is_closed():
    late = threading.Event()

    def open_session() -> Any:
        late.wait()
        opened.append(psycopg2.connect(**connection.get_connection_params()))
        return opened[0]

    opened: list[Any] = []
    with pytest.raises(psycopg2.OperationalError):
        open_within(0.1, open_session)
    late.set()
    deadline = time.monotonic() + 60
    while not (opened and opened[0].closed):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failed_connection_reports_its_own_error(database: Any):
    database.settings_dict = {**database.settings_dict, "NAME": "there_is_no_such_database"}
    with pytest.raises(OperationalError, match="does not exist"):
        database.ensure_connection()


@pytest.mark.parametrize("code", ["25006", "53100", "57P01", "40001"])
def test_a_session_is_closed_after_an_error_that_it_may_not_recover_from(database: Any, code: str):
    begin = f"DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$"
    with pytest.raises(Exception), closing(database.cursor()) as cursor:  # noqa: B017, PT011  (their classes differ)
        cursor.execute(begin)
    database.close_if_unusable_or_obsolete()
    assert database.connection is None


def test_a_session_is_kept_after_an_error_of_the_request(database: Any):
    database.ensure_connection()
    session = database.connection
    with pytest.raises(DataError), closing(database.cursor()) as cursor:
        cursor.execute("SELECT 1 / 0")
    database.close_if_unusable_or_obsolete()
    assert database.connection is session


def test_sessions_are_opened_again_after_a_time_without_threads(database: Any, monkeypatch: pytest.MonkeyPatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(MAX_OPENING + 1):
            database.limits.exceeded = False
            with pytest.raises(OperationalError):
                database.ensure_connection()
    database.limits.exceeded = False
    assert timeouts(database) == LIMITED


@contextmanager
def silent_host() -> Iterator[int]:
    """A port that answers no connection, as a host without power: its queue of connections is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_silent_host_leaves_time_for_the_other(database: Any):
    given = database.get_connection_params()
    database.limits.connection = 3.5
    with silent_host() as port:
        hosts = {"host": f"127.0.0.1,{given['host']}", "port": f"{port},{given.get('port', 5432)}"}
        with closing(database.get_new_connection({**given, **hosts, "connect_timeout": 5})) as session:
            assert session.info.host == given["host"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"host": "a", "connect_timeout": 5}, 5),
        ({"host": "a,b", "connect_timeout": 9}, 5),
        ({"host": "a,b", "connect_timeout": "2"}, 2),
        ({"host": "a,b,c"}, 3),
        ({"hostaddr": "10.0.0.1,10.0.0.2", "connect_timeout": 0}, 5),
    ],
)
def test_several_hosts_share_the_time_to_connect(parameters: dict[str, Any], expected: int):
    assert share_among_hosts(parameters, 10)["connect_timeout"] == expected
