"""A server on a database of its own, and Chromium. The tests use the ORM on the server's database."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from accounts.models import User
from healthcare.tests.browser.harness import AdminPages, chromium, what_is_missing
from healthcare.tests.live import LiveServer, own_database, serving, url_of


@pytest.fixture(scope="package", autouse=True)
def browser_database(request: Any) -> Iterator[str]:
    """The name of a migrated database, which is this process's default database during the tests of this package."""
    if reason := what_is_missing():
        pytest.skip(reason)
    request.getfixturevalue("django_db_setup")
    with request.getfixturevalue("django_db_blocker").unblock():
        connection.ensure_connection()
        connection.close()  # a template must have no session
    of_other_tests = str(connection.settings_dict["NAME"])
    with own_database(template=connection.ops.quote_name(of_other_tests)) as name:
        connection.settings_dict["NAME"] = name
        yield name
        with request.getfixturevalue("django_db_blocker").unblock():
            connection.close()
        connection.settings_dict["NAME"] = of_other_tests


@pytest.fixture(scope="package")
def server(browser_database: str) -> Iterator[LiveServer]:
    with serving(url_of(browser_database), migrated=True) as running:
        yield running


@pytest.fixture(scope="package")
def browser(browser_database: str) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, chromium() as started:
        # Playwright runs an event loop in this thread, in which Django would refuse queries.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield started


@pytest.fixture
def admin_page(
    transactional_db: None, browser: Any, server: LiveServer, make_user: Callable[..., User]
) -> Iterator[AdminPages]:
    """Opens pages as a role, see `AdminPages`. Fails the test if the browser complained about one."""
    pages = AdminPages(browser, server.url, make_user)
    yield pages
    pages.close()
    assert pages.problems == []
