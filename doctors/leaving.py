"""What doctors add to the document about an account: see `accounts.leaving`. Nobody owns an entry of the directory, so
no doctor keeps an account from ending."""

from collections.abc import Mapping
from typing import Any

from accounts.leaving.parts import AccountPart, register_account_part
from accounts.models import User
from doctors.models import Doctor


class DoctorsPart(AccountPart):
    def file_sections(self, user: User, most: int) -> Mapping[str, list[dict[str, Any]]]:
        """The entries of the directory that the user has added, deleted ones included."""
        added = Doctor.objects.filter(created_by=user).order_by("-pk")
        return {"doctors_added": [{"id": doctor.pk, "name": doctor.name} for doctor in added[:most]]}


register_account_part(DoctorsPart())
