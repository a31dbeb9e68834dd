"""Settings for a live server with a view that accepts files, at /api/files/."""

import os

from healthcare.server import queue
from healthcare.tests.settings import *  # noqa: F403

ROOT_URLCONF = "healthcare.tests.file_urls"
queue.LONGEST_FILE_WAIT = float(os.environ["LONGEST_FILE_WAIT"])
