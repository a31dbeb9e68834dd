"""How often e-mails with links are asked for, and wrong tokens are tried, counted as in `accounts.limits`."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from django.conf import settings
from django.db import connection
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from accounts.client_address import client_address, client_network
from accounts.identifiers import normalize_identifier
from accounts.limits import COUNT_WITHIN_HOUR, TAKE_BACK, attempts_key, count_within_hour, log_security_event
from accounts.models import Attempts
from healthcare.api.rate_limits import RatePolicy

EMAILS_TO_ADDRESS = 3  # an hour, of one purpose
EMAILS_FROM_CLIENT = RatePolicy("e-mails", 20, 60 * 60)
WRONG_TOKENS = RatePolicy("links", 20, 60 * 60)


class Purpose(StrEnum):
    """What an e-mail with a link is for. The words are part of the keys of attempts, and of the security log."""

    RESET = "password reset"
    VERIFICATION = "e-mail verification"
    CHANGE = "e-mail change"


class LinkError(ValidationError):
    """The one answer to every token that does not work, whatever the reason, and to an unknown `uid`."""

    def __init__(self) -> None:
        message = "This link is not valid: it was used, has expired, or is not complete. Ask for another one."
        super().__init__({"token": [ErrorDetail(message, "invalid")]})


def count_email(request: Request, purpose: Purpose, address: str) -> bool:
    """Count an e-mail that a client asks for, and say whether it may be sent.

    It may not after 3 an hour to the address, which the client does not learn. Raises RateLimited (429) after 20 an
    hour from the client. Neither depends on whether the address belongs to an account. Each purpose counts for itself,
    so that nobody's requests of one kind keep the owner from another.
    """
    client = emails_from_key(purpose, client_network(client_address(request)))
    count_within_hour(client, Attempts.Kind.EMAILS_FROM, EMAILS_FROM_CLIENT, f"{purpose} refused", request)
    key = emails_to_key(purpose, normalize_identifier(address))
    limit = EMAILS_TO_ADDRESS * settings.THROTTLE_SCALE
    with connection.cursor() as cursor:
        cursor.execute(COUNT_WITHIN_HOUR, {"key": key, "kind": Attempts.Kind.EMAILS_TO, "limit": limit})
        allowed = cursor.fetchone() is not None
    if not allowed:
        log_security_event(f"{purpose} not sent: too many to this e-mail", request)
    return allowed


def emails_to_key(purpose: Purpose, address: str) -> str:
    """The key of the attempts of e-mails with a link to this address, in lower case."""
    return attempts_key(f"{purpose} to", address)


def emails_from_key(purpose: Purpose, network: str) -> str:
    """The key of the attempts of e-mails with a link that clients of this network ask for."""
    return attempts_key(f"{purpose} from", network)


def wrong_links_key(network: str) -> str:
    """The key of the attempts of wrong links from this network."""
    return attempts_key("wrong link from", network)


@contextmanager
def counted_token(request: Request) -> Iterator[None]:
    """Run a block that raises LinkError. Raises RateLimited (429) after 20 wrong ones an hour from one client.

    A token counts as wrong from the beginning and is taken back unless it is, so that concurrent requests do not exceed
    the limit together.
    """
    key = wrong_links_key(client_network(client_address(request)))
    count_within_hour(key, Attempts.Kind.WRONG_LINKS, WRONG_TOKENS, "link refused", request)
    is_wrong = False
    try:
        yield
    except LinkError:
        is_wrong = True
        log_security_event("link not valid", request)
        raise
    finally:
        if not is_wrong:
            with connection.cursor() as cursor:
                cursor.execute(TAKE_BACK, [key])
