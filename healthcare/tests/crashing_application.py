"""A WSGI application that kills its server between commit and answer. granian runs it in place of `healthcare.wsgi`."""

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

from healthcare.wsgi import application as healthcare_application


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Handle the request; with the header `X-Crash-After-Commit`, kill the process instead of answering."""
    answer = healthcare_application(environ, start_response)
    if "HTTP_X_CRASH_AFTER_COMMIT" in environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
