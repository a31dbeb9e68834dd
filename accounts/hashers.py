"""Password hashing."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2idHasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane (OWASP Password Storage). Django's 100 MiB would let 200 logins
    at once take 20 GB."""

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1
