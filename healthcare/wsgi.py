"""The WSGI entry point: `healthcare.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "healthcare.settings")

application = get_wsgi_application()

# The first request must not wait for what every request is held to.
from healthcare.api.strict import parameters  # noqa: E402  (needs the apps)

parameters()
