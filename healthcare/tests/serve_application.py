"""Serve a WSGI application as `manage.py serve` serves the project's: `python -m healthcare.tests.serve_application`.

The arguments are the port on 127.0.0.1 and the application as `module:name`.
"""

import os
import sys

from healthcare.server.address import Address
from healthcare.server.processes import run_granian

if __name__ == "__main__":
    address, drain_seconds = Address("127.0.0.1", int(sys.argv[1])), float(os.environ["DRAIN_SECONDS"])
    run_granian(address, 1, lambda: None, *sys.argv[2:], drain_seconds=drain_seconds)
