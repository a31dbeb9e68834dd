"""Who may act for an owner, and for which owners a user may act."""

from dataclasses import dataclass
from datetime import datetime

from accounts.delegations.models import Delegation
from accounts.models import User
from healthcare.rls.context import without_role


@dataclass(frozen=True)
class AudienceMember:
    """A user who sees an owner's records. `basis` is "owner" or "delegate"; the owner has no role."""

    id: int
    username: str
    name: str
    basis: str
    role: str | None = None
    expires_at: datetime | None = None


def audience_of(owner_id: int) -> list[AudienceMember]:
    """The owner, and the delegates whose delegations work, the earliest first. Staff are not among them."""
    with without_role():
        owner = User.objects.get(pk=owner_id)
        given = Delegation.objects.working().filter(owner=owner).select_related("delegate").order_by("pk")
        return [
            AudienceMember(owner.pk, owner.username, owner.name, "owner"),
            *(
                AudienceMember(
                    one.delegate.pk, one.delegate.username, one.delegate.name, "delegate", one.role, one.expires_at
                )
                for one in given
            ),
        ]


def delegations_to(user: User) -> list[Delegation]:
    """The working delegations that a user has received, the latest first, each with its owner."""
    with without_role():
        return list(Delegation.objects.working().filter(delegate=user).select_related("owner"))
