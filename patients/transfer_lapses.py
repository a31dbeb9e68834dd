"""Tells users of transfers that have lapsed: a transfer lapses by itself, so nobody else does it."""

from typing import Any

from django.db.models import Q
from django.dispatch import receiver

from accounts.delegations.models import DelegateRole, Delegation
from accounts.delegations.notices import notices_requested
from accounts.models import User
from patients.models import PatientTransfer
from patients.transfers import settle_expired


@receiver(notices_requested)
def settle_expired_transfers_of(user: User, **_: Any) -> None:
    """Settle the expired transfers of the user, and of the clinics whose notices the user gets."""
    managed = Delegation.objects.working().filter(delegate=user, role=DelegateRole.MANAGE, owner__is_clinic=True)
    clinics = managed.values("owner")
    sides = Q(from_owner=user) | Q(to_owner=user) | Q(from_owner__in=clinics) | Q(to_owner__in=clinics)
    settle_expired(PatientTransfer.objects.filter(sides))  # which leaves the role, before it reads any of this
