"""The project's settings for pytest itself and for the live servers of `live.serving`, with two changes.

Password hashing is cheap. A request waits longer for a lock, so that on a busy machine concurrent requests do not end
in 503; PostgreSQL detects a deadlock as before, after one second.

Every other program that a test starts runs with `healthcare.settings`. A test about hashing takes the fixture
`configured_hashers`.
"""

from healthcare.settings import *  # noqa: F403

API_STATEMENT_TIMEOUT, API_LOCK_TIMEOUT, API_ANSWER_TIMEOUT = "100s", "60s", 120
PASSWORD_HASHERS = ["healthcare.tests.cheap_hasher.CheapArgon2Hasher"]
