"""Settings for a live server that answers a request with the header X-Stream by a stream.

The header says how many parts of PART bytes the answer has, and what happens then: `10 end`, `3 raise`. The file
STREAMS gets a line when the first part is made (`10 end started`), and one when the response is closed (`10 end closed
after 4 parts`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse

from healthcare.server import streams
from healthcare.tests.settings import *  # noqa: F403
from healthcare.tests.settings import MIDDLEWARE as PROJECT_MIDDLEWARE

PART = 256 * 1024
CANARY = "k4n4ryk4n4ry"  # the text of each exception

streams.LONGEST_STALL = float(os.environ.get("LONGEST_STALL", streams.LONGEST_STALL))


class Parts:
    def __init__(self, asked: str) -> None:
        self.asked, self.made = asked, 0
        number, self.end = asked.split()
        self.number = int(number)

    def __iter__(self) -> "Parts":
        return self

    def __next__(self) -> bytes:
        if not self.made:
            self.record("started")
        if self.made < self.number:
            self.made += 1
            return bytes([self.made % 256]) * PART
        if self.end == "raise":
            raise ValueError(CANARY)
        if self.end == "exit":
            raise SystemExit(CANARY)
        raise StopIteration

    def close(self) -> None:
        self.record(f"closed after {self.made} parts")

    def record(self, what: str) -> None:
        with Path(os.environ["STREAMS"]).open("a") as file:
            file.write(f"{self.asked} {what}\n")


class Streaming:
    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        asked = request.headers.get("X-Stream")
        if not asked:
            return self.get_response(request)
        response: Any = StreamingHttpResponse(Parts(asked), content_type="application/octet-stream")
        response.streams = "X-Joined" not in request.headers
        return response


MIDDLEWARE = [*PROJECT_MIDDLEWARE, f"{__name__}.Streaming"]
