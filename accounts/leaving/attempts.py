"""Which counts of attempts are about an account. Their keys are hashes, computed from what is stored of the user."""

from accounts.client_address import client_network
from accounts.email_links.limits import Purpose, emails_to_key
from accounts.identifiers import normalize_identifier
from accounts.limits import attempts_key, pair_key, user_key
from accounts.models import User


def addresses_of(user: User) -> set[str]:
    """The e-mails that are stored of a user, in lower case."""
    stored = (user.email, user.verified_email, user.pending_email)
    return {normalize_identifier(address) for address in stored if address}


def own_address_of(user: User) -> set[str]:
    """The e-mail of the account in lower case; a former one, or one that is to be confirmed, may be somebody else's."""
    return {normalize_identifier(user.email)} if user.email else set()


def attempts_of(user: User, addresses: set[str] | None = None) -> set[str]:
    """The keys of the counts that are about this account, but not of those about the address of a client alone. Of
    e-mails those to `addresses`, by default to all that are stored of the user.

    Failed logins to the account from an address are found for the addresses from which it has been logged in to. Those
    from elsewhere, which name the account by a hash as well, are removed a day after the last one, by `tidy`.
    """
    account = user_key(user.pk)
    addresses = addresses_of(user) if addresses is None else addresses
    sessions = user.sessions.values_list("pk", "address")
    networks = {client_network(address) for _, address in sessions if address}
    networks |= {*user.login_addresses.values_list("network", flat=True)}
    return {
        account,
        *(pair_key(network, account) for network in networks),
        *(attempts_key("session", str(key)) for key, _ in sessions),
        *(attempts_key(kind, str(user.pk)) for kind in ("email change", "name", "account file")),
        *(emails_to_key(purpose, address) for address in addresses for purpose in Purpose),
    }
