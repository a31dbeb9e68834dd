"""The WSGI entry point: `healthcare.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "healthcare.settings")

application = get_wsgi_application()

from healthcare.api.unknown_parameters import known_parameters  # noqa: E402  (needs the apps)

known_parameters()  # builds the OpenAPI description now, so that the first request does not wait for it
