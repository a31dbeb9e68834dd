"""Fixtures: alice owns records, bob is an outsider, staff works in the admin."""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import connection
from psycopg2.errors import InFailedSqlTransaction
from rest_framework.test import APIClient

import healthcare.settings
from accounts.authentication import known_owners, known_tokens
from accounts.models import LoginSession, User
from accounts.tokens import issue_token_pair
from healthcare.embedded.home import Home
from healthcare.tests import database_flush, export_connections, static_files
from healthcare.tests.migrated import copy_test_databases, stopped_home
from healthcare.tests.superuser import prepare_login_of_tests

PASSWORD = "StrongPass123"

gc.set_threshold(100_000)  # until `pytest_collection_finish`: what is imported and collected is no garbage


@pytest.fixture(autouse=True)
def reset_role_after_each_request() -> Iterator[None]:
    """Reset the role and settings after each request, which the end of its transaction does outside tests."""

    def leave(**_: object) -> None:
        if connection.in_atomic_block:
            # A cursor of the driver, so that query counts do not include it. A failed transaction needs no reset.
            with suppress(InFailedSqlTransaction), connection.connection.cursor() as cursor:
                cursor.execute(
                    "SET LOCAL role TO none; SET LOCAL app.user_id TO ''; SET LOCAL app.owner_id TO ''; "
                    "SET LOCAL app.owner_role TO ''; SET LOCAL pghistory.context_metadata TO ''"
                )

    request_finished.connect(leave)
    yield
    request_finished.disconnect(leave)


@pytest.fixture(autouse=True)
def forget_what_a_process_keeps() -> None:
    """Forget the owners for whom users of other tests have acted, and their tokens, which a server's process keeps."""
    known_owners.clear()
    known_tokens.clear()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock():
        prepare_login_of_tests()
        copy_test_databases()


database_flush.install()
export_connections.install()
static_files.install()
# Subprocesses use the project's own settings unless a fixture such as `live.serving` sets others.
os.environ["DJANGO_SETTINGS_MODULE"] = "healthcare.settings"
pytest_plugins = ["accounts.tests.smtp_server", "healthcare.tests.live"]


@pytest.fixture(scope="session")
def migrated_home() -> Iterator[Home]:
    """A home with a migrated database, whose server is stopped."""
    with stopped_home() as home:
        yield home


def pytest_xdist_auto_num_workers() -> int | None:
    """One worker more than CPUs, since tests that start servers wait much of their time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the slow tests, unless files, tests or a mark are named, or those that failed last are to run."""
    are_named = config.args_source is pytest.Config.ArgsSource.ARGS
    last_failed = getattr(config.option, "lf", False)  # absent without pytest's cache
    if not (are_named or last_failed or config.option.keyword or config.option.markexpr):
        config.option.markexpr = "not slow"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Let garbage collections skip the objects that imports and collected tests hold until the end. To visit them again
    and again took 7 to 20 % of the CPU time of a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000)


@pytest.fixture
def configured_hashers(settings: Any) -> None:
    """Use the password hashers of `healthcare.settings` instead of the fast ones of `healthcare.tests.settings`."""
    settings.PASSWORD_HASHERS = healthcare.settings.PASSWORD_HASHERS


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    def make(username: str, **fields: Any) -> User:
        defaults: dict[str, Any] = {"name": username.title(), "email": f"{username}@example.org", "password": PASSWORD}
        return User.objects.create_user(username, **(defaults | fields))

    return make


@pytest.fixture
def alice(make_user: Callable[..., User]) -> User:
    return make_user("alice")


@pytest.fixture
def bob(make_user: Callable[..., User]) -> User:
    return make_user("bob")


@pytest.fixture
def staff(make_user: Callable[..., User]) -> User:
    return make_user("staff", is_staff=True, is_superuser=True)


class LoggedInClient(APIClient):
    """A client with the access token of its own login session."""

    def __init__(self, user: User) -> None:
        super().__init__()
        self.login_session = LoginSession.objects.start(user, "tests", "127.0.0.1")
        self.tokens = issue_token_pair(self.login_session)
        self.credentials(HTTP_AUTHORIZATION=f"Bearer {self.tokens['access']}")


def logged_in(user: User) -> LoggedInClient:
    return LoggedInClient(user)


@pytest.fixture
def anonymous(db: None) -> APIClient:
    return APIClient()


@pytest.fixture
def as_alice(alice: User) -> LoggedInClient:
    return logged_in(alice)


@pytest.fixture
def as_bob(bob: User) -> LoggedInClient:
    return logged_in(bob)


@pytest.fixture
def as_staff(staff: User) -> LoggedInClient:
    return logged_in(staff)
