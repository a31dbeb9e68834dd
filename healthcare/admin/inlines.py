"""Records of another model on a record's form: the latest ones are listed, and new ones are added there.

Those that exist are changed and ended on pages of their own, so the form holds nothing of them that could collide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib.admin import StackedInline
from django.db.models import QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest

from healthcare.admin.autocomplete import AutocompleteAdmin

MOST_LISTED = 20
MOST_NEW = 20  # in one request


@dataclass(frozen=True)
class ListedRow:
    """The texts of a row's cells, and links as pairs of a text and a URL."""

    cells: Sequence[Any]
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Listing:
    """The latest records, and the URL of the list of all of them."""

    columns: Sequence[str] = ()
    rows: Sequence[ListedRow] = ()
    has_more: bool = False
    all_url: str = ""

    @property
    def labelled_rows(self) -> list[tuple[list[tuple[str, Any]], Sequence[tuple[str, str]]]]:
        """Of each row its cells, each with the name of its column, and its links."""
        return [(list(zip(self.columns, row.cells, strict=True)), row.links) for row in self.rows]


class NewRecords(BaseInlineFormSet):
    """The forms of new records, which belong to the owner of the record whose form they stand on."""

    listing = Listing()

    def save_new(self, form: Any, commit: bool = True) -> Any:
        form.instance.created_by_id = self.instance.created_by_id
        return super().save_new(form, commit)


class ListedInline(AutocompleteAdmin, StackedInline):
    """The base of such an inline. Register it with `RecordAdmin.register_inline`."""

    template = "admin/listed_inline.html"
    formset = NewRecords
    extra = 1
    max_num = MOST_NEW
    can_delete = False
    add_text: ClassVar[str] = ""

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return QuerySet(self.model).none()  # what is listed is not edited

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Django would build up to 1,000 forms more than `max_num`, before it refuses them."""
        return super().get_formset(request, obj, **{"absolute_max": self.max_num, **kwargs})

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        parent = self.admin_site.get_model_admin(self.parent_model)
        may_change = obj is None or parent.has_change_permission(request, obj)
        return may_change and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.admin_site.get_model_admin(self.model).has_view_permission(request))

    def list_rows(self, request: HttpRequest, parent: Any) -> Listing:
        """The latest records of the parent, at most MOST_LISTED."""
        raise NotImplementedError
