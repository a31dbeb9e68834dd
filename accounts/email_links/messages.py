"""The texts of e-mails about passwords and e-mails of accounts.

None names a person or an account: anyone may ask for one, and could otherwise send a name of their own to strangers.
"""

from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.conf import settings

from accounts.email_links.tokens import EMAIL_CHANGE, EMAIL_VERIFICATION, PASSWORD_RESET, LinkTokens, encode_uid
from accounts.mail import Message
from accounts.models import User


@dataclass(frozen=True)
class LinkMessage:
    """An e-mail with a link to a page of the front end, or with the parts of one."""

    tokens: LinkTokens
    page: str
    subject: str
    introduction: str

    def body(self, user: User) -> str:
        """The text for this user. `user` need not exist: that takes the same work."""
        token = {"uid": encode_uid(user), "token": self.tokens.make_token(user)}
        if settings.PUBLIC_URL:
            link = f"{settings.PUBLIC_URL}/{self.page}?{urlencode(token)}"
        else:
            link = "\n".join(f"{name}: {value}" for name, value in token.items())
        lifetime = in_words(self.tokens.lifetime)
        return (
            f"{self.introduction}\n\n{link}\n\nThis works once, within {lifetime}. If you have not asked for it, "
            "ignore this e-mail: nothing has changed.\n"
        )


RESET = LinkMessage(
    PASSWORD_RESET,
    "reset-password",
    "Reset your password",
    "Somebody, hopefully you, has asked to reset the password of your account. Choose a new one here:",
)
VERIFICATION = LinkMessage(
    EMAIL_VERIFICATION,
    "verify-email",
    "Confirm your e-mail",
    "Confirm here that this is the e-mail of your account:",
)
ADDRESS_CHANGE = LinkMessage(
    EMAIL_CHANGE,
    "verify-email",
    "Confirm your new e-mail",
    "Somebody, hopefully you, has asked to make this the e-mail of their account. Confirm it here:",
)


PASSWORD_WAS_RESET = Message(
    "Your password was changed",
    "The password of your account was changed by a link from an e-mail, and every login has ended. If it was not you, "
    "reset your password again, and tell those who operate this service.\n",
)
CHANGE_REQUESTED = Message(
    "Another e-mail was asked for",
    "Somebody who knows your password has asked to change the e-mail of your account. It changes when the new e-mail "
    "is confirmed. If it was not you, change your password: that withdraws the request.\n",
)
EMAIL_WAS_CHANGED = Message(
    "Your e-mail was changed",
    "Your account has another e-mail now, which was confirmed, and this one no longer belongs to it. If it was not "
    "you, tell those who operate this service.\n",
)
EMAIL_IN_USE = Message(
    "Your e-mail has an account already",
    "Somebody has asked to make this the e-mail of another account. It is the e-mail of yours, so nothing has changed. "
    "If it was you, log in to the account that you have.\n",
)


def in_words(lifetime: timedelta) -> str:
    hours, minutes = divmod(int(lifetime.total_seconds()) // 60, 60)
    count, unit = (hours, "hour") if hours and not minutes else (hours * 60 + minutes, "minute")
    return f"{count} {unit}{'' if count == 1 else 's'}"
