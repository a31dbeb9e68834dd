"""The settings that tests run under, loaded by pytest before Django reads any: independent of the developer's .env."""

import os
import secrets
import shutil
import signal
from pathlib import Path

import psutil
import pytest
from dotenv import dotenv_values

from healthcare.tests.memory_folder import create_folder

PROJECT = Path(__file__).resolve().parent.parent.parent
TEST_ENVIRONMENT = {
    # One for a whole run: the workers of pytest-xdist inherit it.
    "SECRET_KEY": os.environ.setdefault("HEALTHCARE_TEST_KEY", secrets.token_urlsafe(50)),
    "DEBUG": "False",
    "HTTPS": "False",
    "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    "JWT_SIGNING_KEY": "",
    "OTP_KEY": "",
    "AUDIT_SEAL_KEY": secrets.token_urlsafe(32),
    "CORS_ALLOWED_ORIGINS": "https://app.example.org",
    "CSRF_TRUSTED_ORIGINS": "",
    "TRUSTED_PROXIES": "0",
    "HSTS_SUBDOMAINS": "False",
    "HSTS_PRELOAD": "False",
    "BODY_SECONDS": "15",
    "THROTTLE_SCALE": "1",
    "RATE_LIMIT": "1000000",  # counts in every test, and limits in those that lower it
    "ACCESS_TOKEN_MINUTES": "15",
    "SESSION_HOURS": "168",
    "SESSION_IDLE_HOURS": "72",
    "FAST_PATH": os.environ.get("FAST_PATH", "on"),  # .ci/run tests the API with `off`, too
    "DB_PREPARED_STATEMENTS": os.environ.get("DB_PREPARED_STATEMENTS", "on"),  # `off` behind PgBouncer
    "DATABASE_REPLICA_URL": "",
    "DIRECTORY_EDITORS": "anyone",
    "PGAPPNAME": "healthcare",  # `manage.py test` has set it to that command
}
os.environ.update(TEST_ENVIRONMENT)

# A run in a script's background ignores Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The embedded PostgreSQL of this run, unless the tests are to use another. Its name holds the process that deletes it:
# workers and programs that tests start inherit the variable.
if not os.environ.get("DATABASE_URL") and not dotenv_values(PROJECT / ".env").get("DATABASE_URL"):
    run_folder = create_folder(f"hc-run-{os.getpid()}-")
    for folder in run_folder.parent.glob("hc-run-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[2])):  # that run was killed, and its server has stopped
            shutil.rmtree(folder, ignore_errors=True)
    os.environ["HEALTHCARE_TEST_FOLDER"] = str(run_folder)
    os.environ["DATABASE_URL"] = f"embedded://{os.environ['HEALTHCARE_TEST_FOLDER']}/home"


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Stop the run's PostgreSQL and delete it, after the workers have ended."""
    folder = Path(os.environ.get("HEALTHCARE_TEST_FOLDER", ""))
    if not folder.name.startswith(f"hc-run-{os.getpid()}-"):
        return
    from healthcare.embedded import server
    from healthcare.embedded.home import resolve_home

    home = resolve_home(folder / "home")
    if home.folder.exists():
        server.attach(home)
        server.detach(home)
    shutil.rmtree(folder, ignore_errors=True)
