"""Settings for a live server whose middleware, streams and signals raise where a request asks for it."""

from collections.abc import Callable, Iterator
from typing import Any

from django.core.signals import request_started
from django.http import HttpRequest, StreamingHttpResponse

from healthcare.tests.settings import *  # noqa: F403
from healthcare.tests.settings import MIDDLEWARE as PROJECT_MIDDLEWARE

CANARY = "k4n4ryk4n4ry"  # the text of each exception
EXCEPTIONS: dict[str, type[BaseException]] = {
    "KeyError": KeyError, "RecursionError": RecursionError, "MemoryError": MemoryError, "SystemExit": SystemExit,
}  # fmt: skip


def raise_if(asked: dict[str, Any], place: str) -> None:
    if asked.get("HTTP_X_RAISE_IN") == place:
        raise EXCEPTIONS[asked["HTTP_X_RAISE"]](CANARY)


class Raising:
    place = ""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        raise_if(request.META, f"{self.place} before")
        response = self.get_response(request)
        raise_if(request.META, f"{self.place} after")
        if request.META.get("HTTP_X_RAISE_IN") == f"{self.place} stream":
            return StreamingHttpResponse(self.stream(request))
        return response

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        raise_if(request.META, f"{self.place} view")

    def stream(self, request: HttpRequest) -> Iterator[bytes]:
        yield b"first part"
        raise EXCEPTIONS[request.META["HTTP_X_RAISE"]](CANARY)


class RaisingOutside(Raising):
    place = "outside"


class RaisingInside(Raising):
    place = "inside"


class RaisingInnermost(Raising):
    place = "innermost"


def raise_at_start(environ: dict[str, Any], **_: Any) -> None:
    raise_if(environ, "signal")


request_started.connect(raise_at_start)

MIDDLEWARE = [
    f"{__name__}.RaisingOutside",
    PROJECT_MIDDLEWARE[0],
    f"{__name__}.RaisingInside",
    *PROJECT_MIDDLEWARE[1:],
    f"{__name__}.RaisingInnermost",
]
