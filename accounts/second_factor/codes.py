"""The codes of a second factor: those of an authenticator app (TOTP, RFC 6238), and recovery codes."""

import base64
import hashlib
import re
import secrets
import time
from urllib.parse import quote, urlencode

from django_otp.oath import TOTP

ISSUER = "Healthcare"  # how authenticator apps name this server
SECRET_BYTES = 20  # RFC 4226 section 4 recommends 160 bits
STEP = 30  # seconds; with 6 digits and SHA-1 what every authenticator app computes
DRIFT = 1  # steps that the user's clock may be off, either way
RECOVERY_CODES = 10
RECOVERY_BYTES = 10
APP_CODE = re.compile("[0-9]{6}", re.ASCII)
RECOVERY_CODE = re.compile("[A-Z2-7]{16}", re.ASCII)
SEPARATORS = re.compile(r"[\s\-\u2010-\u2015\u2212]+")  # spaces, and what keyboards make of a hyphen


def new_otp_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def base32(secret: bytes) -> str:
    """A secret as people type it into an app, of 32 characters."""
    return base64.b32encode(secret).decode()


def otpauth_uri(secret: bytes, username: str) -> str:
    """What a QR code for an authenticator app contains (the Key URI format of Google Authenticator)."""
    parameters = {"secret": base32(secret), "issuer": ISSUER, "algorithm": "SHA1", "digits": 6, "period": STEP}
    return f"otpauth://totp/{quote(f'{ISSUER}:{username}', safe=':')}?{urlencode(parameters, quote_via=quote)}"


def normalize_code(text: str | None) -> str:
    """A code as it is compared: without spaces and dashes, in upper case. Empty for none."""
    return SEPARATORS.sub("", text or "").upper()


def is_app_code(code: str) -> bool:
    """Whether a normalized code has the form of those that apps compute."""
    return bool(APP_CODE.fullmatch(code))


def find_step(secret: bytes, code: str, last_step: int | None) -> int | None:
    """The time step, after `last_step`, whose code this normalized one is; None if it is that of none."""
    if not is_app_code(code):
        return None
    totp = TOTP(secret, step=STEP)
    totp.time = time.time()
    earliest = None if last_step is None else last_step + 1
    return totp.t() if totp.verify(int(code), tolerance=DRIFT, min_t=earliest) else None


def new_recovery_codes() -> list[str]:
    """Ten codes of 80 random bits, such as `MZXW-6YTB-OI3D-Q5LT`."""
    return [write_recovery_code(secrets.token_bytes(RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]


def write_recovery_code(random: bytes) -> str:
    return "-".join(re.findall("....", base32(random)))


def hash_recovery_code(code: str, user_id: int) -> str | None:
    """What is stored of a user's recovery code, given as it is normalized; None for a text that is none.

    The code has too many bits to be guessed, so a fast hash keeps it. No key takes part: recovery codes work on when
    OTP_KEY or SECRET_KEY is lost, and with it the secrets of the apps.
    """
    if not RECOVERY_CODE.fullmatch(code):
        return None
    return hashlib.sha256(f"recovery code of user {user_id}: {code}".encode()).hexdigest()
