"""Records the lapse of transfers, and notifies both sides, before one of them lists notices."""

from typing import Any

from django.db.models import Q
from django.dispatch import receiver

from accounts.delegations.models import Delegation
from accounts.delegations.notices import notices_requested
from accounts.models import User
from patients.models import PatientTransfer
from patients.transfers import settle_expired


@receiver(notices_requested)
def settle_expired_transfers_of(user: User, **_: Any) -> None:
    """Settle the expired transfers of the user, and of the clinics that the user manages."""
    clinics = Delegation.objects.managing().filter(delegate=user, owner__is_clinic=True).values("owner")
    sides = Q(from_owner=user) | Q(to_owner=user) | Q(from_owner__in=clinics) | Q(to_owner__in=clinics)
    settle_expired(PatientTransfer.objects.filter(sides))  # evaluated without the role of the API
