"""A WSGI application that answers with the class that keeps Django's connections in a worker."""

from collections.abc import Callable, Iterable
from typing import Any

from django.db import connections

from healthcare.wsgi import application as healthcare_application  # noqa: F401  (loads Django)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    keeper = type(connections._connections)  # type: ignore[attr-defined]
    return [f"{keeper.__module__}.{keeper.__qualname__}".encode()]
