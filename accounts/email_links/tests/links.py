"""The calls about links in e-mails, and what is read from an e-mail."""

import re
from email.message import Message
from typing import Any

RESET, RESET_CONFIRM = "/api/auth/password/reset/", "/api/auth/password/reset/confirm/"
VERIFY, VERIFY_CONFIRM = "/api/auth/email/verify/", "/api/auth/email/verify/confirm/"
CHANGE, ME, LOGIN = "/api/auth/email/", "/api/auth/me/", "/api/auth/login/"
NEW_PASSWORD = "Kf7-fifteen"


def text_of(message: Message) -> str:
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def link_in(message: Message) -> dict[str, str]:
    """The `uid` and the `token` that an e-mail holds."""
    return dict(re.findall(r"\b(uid|token)[:=] ?([\w-]+)", text_of(message)))


def statements(queries: Any) -> list[str]:
    """The statements of a request without their values."""
    return [re.sub(r"'[^']*'|\b\d+\b", "?", query["sql"]) for query in queries.captured_queries]
