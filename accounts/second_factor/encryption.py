"""How the secrets of second factors are encrypted in the database."""

from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from django.conf import settings


def encrypt_secret(secret: bytes, user_id: int) -> bytes:
    return cipher_of(settings.OTP_KEY).encrypt(secret, associated_data(user_id))


def decrypt_secret(encrypted: bytes | memoryview, user_id: int) -> bytes | None:
    """The secret; None if it was encrypted with another key or for another user, or is damaged."""
    try:
        return cipher_of(settings.OTP_KEY).decrypt(bytes(encrypted), associated_data(user_id))
    except (InvalidTag, ValueError):
        return None


def associated_data(user_id: int) -> list[bytes]:
    """Binds a secret to its user: who can write to the table cannot give one user the secret of another."""
    return [str(user_id).encode()]


@cache
def cipher_of(key: bytes) -> AESSIV:
    """AES-SIV (RFC 5297), as for cursors: it needs no nonce that could be used twice."""
    return AESSIV(key)
