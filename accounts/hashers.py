"""Password hashing."""

from django.contrib.auth.hashers import Argon2PasswordHasher

from accounts.hashing_limit import hashing_slot


class Argon2idHasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane (OWASP Password Storage). With Django's 100 MiB, 200 concurrent
    logins would take 20 GB."""

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        with hashing_slot():
            return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        with hashing_slot():
            return super().verify(password, encoded)
