"""A test client's way to the application, past what stands in front of Django as a server's requests go."""

from typing import Any
from unittest.mock import patch

from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished
from django.db import close_old_connections, connection
from django.http import HttpResponse
from rest_framework.test import ForceAuthClientHandler

from healthcare.fastpath import door


class ServedHandler(ForceAuthClientHandler):
    """What `healthcare.wsgi` does: ordinary requests are answered directly, all others by Django."""

    def __call__(self, environ: dict[str, Any]) -> Any:
        with patch.object(connection, "close_if_unusable_or_obsolete"):  # the tests' transaction is in it
            found = None if getattr(self, "_force_user", None) else door.answer(environ)
        if found is None:
            return super().__call__(environ)
        response = HttpResponse(found.content, status=found.status, headers=dict(found.headers))
        response.wsgi_request = WSGIRequest(environ)  # type: ignore[attr-defined]
        request_finished.disconnect(close_old_connections)
        response.close()
        request_finished.connect(close_old_connections)
        return response
