"""The text of a personal access token: `hcp_<id>_<user's id>_<secret><checksum>`."""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass

PREFIX = "hcp_"
TOKEN_SECRET_BYTES = 32
# A checksum of CRC-32 in hex, so that scanners of secrets and this server recognise a token without a database.
FORMAT = re.compile(r"hcp_([1-9][0-9]{0,17})_([1-9][0-9]{0,17})_([0-9a-f]{64})([0-9a-f]{8})", re.ASCII)


@dataclass(frozen=True)
class PersonalToken:
    """The parts of a token. They prove nothing until the database knows `secret_hash`."""

    session_id: int
    user_id: int
    secret_hash: str


def new_token_secret() -> str:
    """256 random bits in hex."""
    return secrets.token_hex(TOKEN_SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """What is stored of a secret. It has too many bits to be guessed, so a fast hash without a salt keeps it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def write_token(session_id: int, user_id: int, secret: str) -> str:
    text = f"{PREFIX}{session_id}_{user_id}_{secret}"
    return f"{text}{checksum(text)}"


def read_token(text: str) -> PersonalToken | None:
    """The parts of a token; None for any other text, such as a token with a missing character."""
    found = FORMAT.fullmatch(text)
    if found is None or found[4] != checksum(text[: -len(found[4])]):
        return None
    return PersonalToken(int(found[1]), int(found[2]), hash_secret(found[3]))


def checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
