"""Serve a WSGI application as `manage.py serve` serves the project's: `python -m healthcare.tests.serve_application`.

The arguments are the port on 127.0.0.1 and the application as `module:name`.
"""

import sys

from healthcare.server.address import Address
from healthcare.server.processes import run_granian

if __name__ == "__main__":
    run_granian(Address("127.0.0.1", int(sys.argv[1])), 1, lambda: None, *sys.argv[2:])
