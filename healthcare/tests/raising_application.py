"""A WSGI application that fails where its path says. granian runs it in place of `healthcare.wsgi`."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from healthcare.wsgi import application as healthcare_application


class FailingAtItsEnd(list[bytes]):
    def close(self) -> None:
        raise ValueError("after the answer was sent")


def failing_iterator() -> Iterator[bytes]:
    yield b"a part"
    raise ValueError("within the answer")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError("before the answer")
    if path == "/exit":
        sys.exit("before the answer")
    if path in {"/iterate", "/close"}:
        start_response("200 OK", [])
        return failing_iterator() if path == "/iterate" else FailingAtItsEnd([b"whole"])
    return healthcare_application(environ, start_response)
