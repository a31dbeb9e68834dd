"""Who may write the directory of doctors: `DIRECTORY_EDITORS`."""

from typing import Any

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, AllowAny, BasePermission
from rest_framework.request import Request

from doctors.models import Doctor
from healthcare.coverage import covered_by_fast_path


@covered_by_fast_path
class DirectoryPermission(BasePermission):
    """Which of the callers who are logged in may write. Staff always may.

    `anyone` lets everybody write; `creator` lets everybody add a doctor, and the one who added it change, delete and
    restore it; `staff` lets nobody else write.
    """

    message = "Ask a member of staff: only staff may change the directory of doctors."
    not_the_creator = "Ask a member of staff: only staff and the account that added this doctor may change it."

    @classmethod
    def equivalent(cls, action: str) -> type[BasePermission] | None:
        """DRF's permission that allows the same for this action, by which the fast path serves it."""
        restricted: set[str] = {"anyone": set(), "creator": {"update", "partial_update"}}.get(
            settings.DIRECTORY_EDITORS,
            {"create", "update", "partial_update", "search"},  # served by other methods than GET
        )
        return None if action in restricted else AllowAny

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS or request.user.is_staff:
            return True
        return settings.DIRECTORY_EDITORS in {"anyone", "creator"}

    def has_object_permission(self, request: Request, view: Any, obj: Doctor) -> bool:
        if request.method in SAFE_METHODS or request.user.is_staff or settings.DIRECTORY_EDITORS != "creator":
            return True  # has_permission has decided
        self.message = self.not_the_creator
        return obj.created_by_id == request.user.pk
