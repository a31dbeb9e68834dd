"""A WSGI application whose requests wait until a file exists. granian runs it in place of `healthcare.wsgi`.

It records the path of each request that it runs as a line of the file RECORD, so that a test knows which were run. It
holds the paths that begin with /hold, and those that hash a password, until the file RELEASE exists. Requests may wait
in the queue for LONGEST_QUEUE_WAIT seconds.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.conf import settings

from healthcare.operations.access_log import QUEUE_US
from healthcare.server import queue
from healthcare.wsgi import application as healthcare_application  # noqa: F401  (loads Django)

queue.LONGEST_QUEUE_WAIT = float(os.environ["LONGEST_QUEUE_WAIT"])
record, release = Path(os.environ["RECORD"]), Path(os.environ["RELEASE"])


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    with record.open("a") as file:
        file.write(f"{environ['PATH_INFO']}\n")
    held = environ["PATH_INFO"].startswith("/hold") or environ["PATH_INFO"] in settings.PASSWORD_PATHS
    while held and not release.exists():
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ[QUEUE_US]).encode()]
