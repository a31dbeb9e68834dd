"""Where the app that keeps histories adds its pages to the admin of all models, of apps beside it too."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest
from django.urls import path


class HistoryPages(Protocol):
    """The pages of the history of one model's records."""

    def covers(self, model: type[Model]) -> bool:
        """Whether a history of this model's records is kept."""

    def show(self, model_admin: Any, request: HttpRequest, record: Any) -> Any:
        """The response with the changes of the record."""

    def last_changes(self, record: Any, fields: Iterable[str]) -> Mapping[str, str]:
        """By field, who changed it last and when, in words; nothing for a change that is not known."""

    def restore(self, model_admin: Any, request: HttpRequest, record: Any, event_id: int) -> Any:
        """The preview of a version (GET), or the response after it was restored (POST)."""


class HistoryAdmin(admin.ModelAdmin):
    """Replaces Django's history of a record, which knows of the admin's changes alone, where a complete one is kept."""

    history_pages: ClassVar[HistoryPages | None] = None
    restores_versions: ClassVar[bool] = False  # whether earlier versions of a record can be restored

    @classmethod
    def register_history_pages(cls, pages: HistoryPages) -> None:
        cls.history_pages = pages

    def last_changes(self, record: Any, fields: Iterable[str]) -> Mapping[str, str]:
        return self.history_pages.last_changes(record, fields) if self.history_pages else {}

    def keeps_history(self) -> bool:
        return self.history_pages is not None and self.history_pages.covers(self.model)

    def get_urls(self) -> list[Any]:
        if not (self.restores_versions and self.keeps_history()):
            return super().get_urls()
        view = self.admin_site.admin_view(self.restore_version_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_restore_version"
        return [path("<path:object_id>/history/<int:event_id>/restore/", view, name=name), *super().get_urls()]

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        if not self.keeps_history():
            return super().history_view(request, object_id, extra_context)
        record = self.get_object(request, object_id)
        if record is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]
        if not self.has_view_or_change_permission(request, record):
            raise PermissionDenied
        return self.history_pages.show(self, request, record)  # type: ignore[union-attr]

    def restore_version_view(self, request: HttpRequest, object_id: str, event_id: int) -> Any:
        if not self.may_restore_versions(request):
            raise PermissionDenied
        record = self.get_object(request, object_id)
        if record is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]
        return self.history_pages.restore(self, request, record, event_id)  # type: ignore[union-attr]

    def why_not_restorable(self, record: Any, version: int) -> str:
        """Why this version of the record must not be restored, and what to do instead; empty if it may be."""
        return ""

    def may_restore_versions(self, request: HttpRequest, record: Any = None) -> bool:
        """Restoring a version changes the record and brings something back, so it needs the permission for each, where
        the model declares the second."""
        restore = f"restore_{self.opts.model_name}"
        declared = restore in dict(self.opts.permissions)
        return (
            self.restores_versions
            and self.has_change_permission(request, record)
            and (not declared or request.user.has_perm(f"{self.opts.app_label}.{restore}"))
        )
