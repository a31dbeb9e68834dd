"""The connections of a worker's threads behave as Django's own, without asgiref's `Local`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections

from healthcare.server import thread_locals
from healthcare.server.thread_locals import use_thread_local_connections
from healthcare.tests.live import serving, url_of


@pytest.fixture
def own_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of a worker, until the test ends."""
    monkeypatch.setattr(connections, "_connections", connections._connections)  # type: ignore[attr-defined]
    use_thread_local_connections()


def test_a_worker_uses_them() -> None:
    with serving(
        url_of("unused"), application="healthcare.tests.connections_application:application", migrated=True
    ) as live:
        assert live.call("GET", "/").body == b"_thread._local"


def test_an_open_connection_stays_that_of_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_connections", connections._connections)  # type: ignore[attr-defined]
    before = connections["default"]
    use_thread_local_connections()
    assert connections["default"] is before
    assert [*connections.all(initialized_only=True)] == [before]


@pytest.mark.usefixtures("own_connections")
def test_each_thread_has_its_own() -> None:
    with ThreadPoolExecutor(1) as pool:
        of_another = pool.submit(lambda: connections["default"]).result()
    assert of_another is not connections["default"]


@pytest.mark.usefixtures("own_connections")
@pytest.mark.django_db
def test_a_coroutine_may_not_use_one() -> None:
    async def ask() -> None:
        connection.cursor()

    with pytest.raises(SynchronousOnlyOperation):
        async_to_sync(ask)()


@pytest.mark.usefixtures("own_connections")
def test_what_a_coroutine_hands_back_to_its_thread_finds_the_connection_of_that_thread() -> None:
    async def ask() -> tuple[int, object]:
        return await sync_to_async(lambda: (threading.get_ident(), connections["default"]))()

    assert async_to_sync(ask)() == (threading.get_ident(), connections["default"])


def test_a_django_that_keeps_them_elsewhere_keeps_them_so(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = SimpleNamespace(_connections="elsewhere")
    monkeypatch.setattr(thread_locals, "connections", handler)
    use_thread_local_connections()
    assert handler._connections == "elsewhere"
