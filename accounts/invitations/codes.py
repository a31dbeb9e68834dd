"""The text of an invitation, which the invited person sends when they register, and how a registration uses it up.

The text is signed and stored nowhere: who reads the database cannot register with what they find in it.
"""

from datetime import UTC, datetime, timedelta

from django.core.signing import BadSignature, Signer
from django.utils import timezone
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.identifiers import normalize_identifier
from accounts.invitations.models import Invitation
from healthcare.model_fields import ID_TEXT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOT_USABLE = "This invitation cannot be used; ask the staff for a new one, and register with the e-mail that it is for."


def write_invitation(invitation: Invitation) -> str:
    """`<id>-<microseconds>:<signature>`.

    The time of creation is part of it, since PostgreSQL gives ids again after a backup was restored: an invitation that
    was made after the backup must not work as another one.
    """
    microseconds = (invitation.created_at - EPOCH) // timedelta(microseconds=1)
    return signer().sign(f"{invitation.pk}-{microseconds}")


def read_invitation(text: str) -> tuple[int, datetime] | None:
    """The id and the time of creation; None unless this server has signed the text."""
    try:
        key, _, microseconds = signer().unsign(text).partition("-")
    except BadSignature:
        return None
    if not (ID_TEXT.match(key) and ID_TEXT.match(microseconds)):
        return None
    return int(key), EPOCH + timedelta(microseconds=int(microseconds))


def signer() -> Signer:
    return Signer(salt="accounts.invitations")


def lock_invitation(text: str, email: str) -> Invitation:
    """The invitation with this text that this e-mail may register with, its row locked until the transaction ends.

    Of two registrations with one invitation, the second waits here and finds it used, or usable if the first has
    failed. Raises ValidationError (400), the same for every reason.
    """
    invitation = None
    if found := read_invitation(text):
        key, created_at = found
        usable = Invitation.objects.usable().select_for_update(no_key=True)
        invitation = usable.filter(pk=key, created_at=created_at).first()
    if invitation is None or not is_for(invitation, email):
        raise ValidationError({"invitation": [ErrorDetail(NOT_USABLE, "invalid")]})
    return invitation


def is_for(invitation: Invitation, email: str) -> bool:
    """Whether this e-mail may register with it, compared as logins compare e-mails."""
    return not invitation.email or normalize_identifier(invitation.email) == normalize_identifier(email)


def use_invitation(invitation: Invitation, user_id: int) -> None:
    """Store who has registered with a locked invitation."""
    invitation.used_at, invitation.used_by_id = timezone.now(), user_id
    invitation.save(update_fields=["used_at", "used_by"])
