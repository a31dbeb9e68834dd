"""The WSGI entry point: `healthcare.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "healthcare.settings")

django = get_wsgi_application()

from healthcare.api.unknown_parameters import parameters  # noqa: E402  (needs the apps)
from healthcare.fastpath.door import Door  # noqa: E402

parameters()  # the first request must not wait for what every request is held to
application = Door(django)
