"""The application for a server that is killed at a certain moment: granian runs it in place of `healthcare.wsgi`."""

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

from healthcare.wsgi import application as healthcare


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers like the real one, but dies in its place after the transaction when the header asks for it."""
    answer = healthcare(environ, start_response)
    if "HTTP_DIE_AFTER_THE_COMMIT" in environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
