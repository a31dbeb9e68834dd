"""The settings that tests run under, loaded by pytest before Django reads any: independent of the developer's .env."""

import os
import secrets
import signal

TEST_ENVIRONMENT = {
    # One for a whole run: the workers of pytest-xdist inherit it.
    "SECRET_KEY": os.environ.setdefault("HEALTHCARE_TEST_KEY", secrets.token_urlsafe(50)),
    "DEBUG": "False",
    "HTTPS": "False",
    "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    "JWT_SIGNING_KEY": "",
    "AUDIT_SEAL_KEY": secrets.token_urlsafe(32),
    "CORS_ALLOWED_ORIGINS": "https://app.example.org",
    "CSRF_TRUSTED_ORIGINS": "",
    "TRUSTED_PROXIES": "0",
    "THROTTLE_SCALE": "1",
    "ACCESS_TOKEN_MINUTES": "15",
    "SESSION_HOURS": "168",
    "PGAPPNAME": "healthcare",  # `manage.py test` has set it to that command
}
os.environ.update(TEST_ENVIRONMENT)

# A run in a script's background ignores Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
