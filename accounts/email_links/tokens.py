"""The tokens of links in e-mails: signed by Django's generator, short-lived, and stored nowhere.

A token is signed over what it changes, so it works once, and no longer once the password or an e-mail of the account
has changed by any other way.
"""

import json
import re
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.utils.encoding import force_bytes
from django.utils.http import base36_to_int, urlsafe_base64_decode, urlsafe_base64_encode

from accounts.models import User

UID = re.compile(r"[A-Za-z0-9_-]{1,24}", re.ASCII)  # base64 of at most 18 digits
ID = re.compile(rb"[0-9]{1,18}")


class LinkTokens(PasswordResetTokenGenerator):
    """Signs and checks the tokens of one purpose, which live as long as a setting says."""

    def __init__(self, purpose: str, lifetime_setting: str) -> None:
        super().__init__()
        self.key_salt = f"accounts.email_links.{purpose}"
        self.lifetime_setting = lifetime_setting

    @property
    def lifetime(self) -> timedelta:
        lifetime: timedelta = getattr(settings, self.lifetime_setting)
        return lifetime

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        # In JSON, so that no two states of an account read the same.
        return json.dumps([user.pk, user.password, user.email, user.verified_email, user.pending_email, timestamp])

    def check_token(self, user: Any, token: str | None) -> bool:
        """Whether the token was signed for this user as they are now, and has not expired."""
        if not super().check_token(user, token):  # which compares with PASSWORD_RESET_TIMEOUT, the longest lifetime
            return False
        signed = base36_to_int(str(token).partition("-")[0])
        return self._num_seconds(self._now()) - signed <= self.lifetime.total_seconds()


PASSWORD_RESET = LinkTokens("password reset", "PASSWORD_RESET_LIFETIME")
EMAIL_VERIFICATION = LinkTokens("email verification", "EMAIL_VERIFY_LIFETIME")
EMAIL_CHANGE = LinkTokens("email change", "EMAIL_VERIFY_LIFETIME")


def encode_uid(user: User) -> str:
    """The `uid` of a link, as in Django's own links."""
    return urlsafe_base64_encode(force_bytes(user.pk))


def decode_uid(uid: str) -> int | None:
    """The user's id; None unless it is one that `encode_uid` could have written."""
    if not UID.fullmatch(uid):
        return None
    try:
        digits = urlsafe_base64_decode(uid)
    except ValueError:
        return None
    return int(digits) if ID.fullmatch(digits) else None
