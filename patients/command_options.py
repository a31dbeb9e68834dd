"""Who asks for what a command does to a patient."""

from django.core.management.base import CommandError

from accounts.models import User


def staff_username(name: str) -> str:
    """The username of a member of staff, as it is stored; empty when none is named."""
    user = User.objects.find_by_identifier(name) if name else None
    if name and not (user and user.is_staff and user.is_active):
        raise CommandError("--by: There is no active member of staff with this username.")
    return user.username if user else ""
