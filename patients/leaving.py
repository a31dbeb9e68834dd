"""What patients add to the end of an account: see `accounts.leaving`."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.db.models import Q

from accounts.delegations.named_users import NamedUser
from accounts.leaving.parts import AccountPart, register_account_part
from accounts.models import User
from healthcare.api.fields import DateTimeField
from patients.models import Patient, PatientTransfer
from patients.transfers import SettledTransfer, decline


class PatientsPart(AccountPart):
    """An account that owns patients does not end by itself.

    Deleted patients count: their data is kept, nobody else could restore them, and `erase_user` refuses while they are
    there. Records that were merged into others do not count, since they belong to the owner of the record that was
    kept, and go with it. Neither do offers: a patient whom the user offers is the user's until it is accepted, and
    counts as one; an offer to the user is declined. Nor does it matter whether a patient is under a legal hold: held
    patients are not transferred but handed over, so there is a way for each of them.
    """

    advice = (
        "Offer each patient to another owner (POST /api/patients/{id}/transfer/), or ask a member of staff to hand "
        "over everything, deleted patients included (manage.py hand_over)."
    )

    def settle(self, user: User) -> None:
        for transfer in PatientTransfer.objects.pending().filter(to_owner=user).order_by("pk"):
            with suppress(SettledTransfer):  # it has lapsed, or the other side withdraws it right now
                decline(transfer, user)

    def count_records(self, user: User) -> Mapping[str, int]:
        owned = Patient.objects.owned_by(user).unmerged()
        return {"patients": owned.active().count(), "deleted_patients": owned.hidden().count()}

    def file_sections(self, user: User, most: int) -> Mapping[str, list[dict[str, Any]]]:
        """The offers on either side, which tell nothing about the patient, as in the API."""
        transfers = PatientTransfer.objects.filter(Q(from_owner=user) | Q(to_owner=user)).order_by("-pk")
        named = transfers.annotate(named_from=NamedUser("from_owner_id"), named_to=NamedUser("to_owner_id"))
        return {"transfers": [transfer_as_dict(transfer) for transfer in named[:most]]}


def transfer_as_dict(transfer: Any) -> dict[str, Any]:
    at = DateTimeField().to_representation
    return {
        "id": transfer.pk,
        "from": transfer.named_from,
        "to": transfer.named_to,
        "state": transfer.current_state,
        "created_at": at(transfer.created_at),
        "expires_at": at(transfer.expires_at),
        "settled_at": transfer.settled_at and at(transfer.settled_at),
    }


register_account_part(PatientsPart())
