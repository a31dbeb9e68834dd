"""The project's settings with cheap password hashing, for pytest itself and for the live servers of `live.serving`.

Every other program that a test starts runs with `healthcare.settings`. A test about hashing takes the fixture
`configured_hashers`.
"""

from healthcare.settings import *  # noqa: F403

PASSWORD_HASHERS = ["healthcare.tests.cheap_hasher.CheapArgon2Hasher"]
