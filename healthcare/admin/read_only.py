"""The base of the admin of models whose rows other code writes."""

from typing import Any

from django.http import HttpRequest

from healthcare.admin.edit_conflicts import ConflictCheckingAdmin


class ReadOnlyAdmin(ConflictCheckingAdmin):
    """Staff view the rows and neither add nor change any. Some may be deleted, by the permission for it."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
