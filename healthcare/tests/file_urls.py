"""The project's URLs and a view that accepts files.

It answers with the size and the SHA-256 of the body, in hexadecimal digits. With the header X-Hold it appends the
header's value to the file RECORD, and reads the body when the file RELEASE exists.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path

from healthcare.urls import urlpatterns as project_urls


def take_file(request: HttpRequest) -> JsonResponse:
    if "X-Hold" in request.headers:
        with Path(os.environ["RECORD"]).open("a") as record:
            record.write(f"{request.headers['X-Hold']}\n")
        while not Path(os.environ["RELEASE"]).exists():
            time.sleep(0.01)
    size, digest = 0, hashlib.sha256()
    while part := request.read(64 * 1024):
        size += len(part)
        digest.update(part)
    return JsonResponse({"size": size, "sha256": digest.hexdigest()})


view: Any = take_file
view.initkwargs = {"accepts_files": True}  # as DRF gives them to the view of an action
urlpatterns = [path("api/files/", view), *project_urls]
