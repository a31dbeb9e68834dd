"""The base of the admin of every model of records (`ownership.Record`): delete hides, and the owner is fixed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.urls import path

from healthcare.admin.actions import Refusals
from healthcare.admin.edit_conflicts import ConflictCheckingAdmin
from healthcare.admin.inlines import ListedInline
from healthcare.admin.owners import OwnerField, OwnerSelect, add_user_url, eligible_owners, suggest_users
from healthcare.admin.record_actions import DeleteRecords, RestoreRecords
from healthcare.admin.record_lists import RecordListAdmin
from healthcare.ownership import Record

AFTER_INLINES = "after-inlines"  # the class of a fieldset that the form shows below the inlines


@dataclass(frozen=True)
class DeletionObstacle:
    """Why some records cannot be deleted: `find` returns those among the given ones. `reason` completes the sentence
    that begins with the description of a record."""

    find: Callable[[Sequence[Any]], Iterable[Record]]
    reason: str


class RecordAdmin(RecordListAdmin, ConflictCheckingAdmin):
    """Records of every owner. Deleting one hides it. A hidden record can be viewed and not changed."""

    change_form_template = "admin/record_change_form.html"
    task = "Records"  # its group on the home page
    delete_confirmation_template = "admin/record_delete_confirmation.html"
    actions = [DeleteRecords(), RestoreRecords()]
    restores_versions = True
    record_fields: ClassVar[Sequence[str]] = ["created_by", "state", "created_at", "updated_at", "version"]

    # The foreign key to the record whose owner a new record gets, such as an assignment's patient. Without one staff
    # choose the owner.
    owner_follows: ClassVar[str] = ""

    registered_inlines: ClassVar[Sequence[type[ListedInline]]] = ()
    registered_obstacles: ClassVar[Sequence[DeletionObstacle]] = ()

    @classmethod
    def register_inline(cls, inline: type[ListedInline]) -> None:
        """Let an app above this one, which this admin does not know of, add its records to the form."""
        cls.registered_inlines = [*cls.registered_inlines, inline]

    @classmethod
    def register_obstacle(cls, obstacle: DeletionObstacle) -> None:
        """Let an app above this one, which this admin does not know of, prevent deletions."""
        cls.registered_obstacles = [*cls.registered_obstacles, obstacle]

    def owner_id(self, form: Any) -> Any:
        """The id of the user who owns the new record of this form."""
        if self.owner_follows:
            return form.cleaned_data[self.owner_follows].created_by_id
        return form.cleaned_data["created_by"].pk

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_owners"
        owners = path("owners/", self.admin_site.admin_view(self.owners_view), name=name)
        return [*([] if self.owner_follows else [owners]), *super().get_urls()]

    def owners_view(self, request: HttpRequest) -> JsonResponse:
        """Suggestions for the owner of a new record."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return suggest_users(eligible_owners(), request.GET.get("term", ""))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A form that asks for the owner of a new record. The model's field is not editable, so Django makes none."""
        fields = kwargs.pop("fields", None) or flatten_fieldsets(self.get_fieldsets(request, obj))
        labels = {**getattr(getattr(self.form, "Meta", None), "labels", {}), "created_by": "Owner"}
        kwargs |= {"fields": [name for name in fields if name != "created_by"], "labels": labels}
        form = super().get_form(request, obj, change=change, **kwargs)
        if obj is None and not self.owner_follows:
            column = self.model._meta.get_field("created_by")
            widget = OwnerSelect(column, self.admin_site, attrs={"class": "owner-select"})
            form.base_fields["created_by"] = OwnerField(
                eligible_owners(),
                label="Owner",
                widget=widget,
                help_text="The user who works with the record in the API. Type the beginning of the username. "
                "It cannot be changed afterwards.",
            )
        return form

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The form, which says what to do first while no user can own a new record."""
        if context["original"] is None and not self.owner_follows and not eligible_owners().exists():
            context["nobody_can_own"] = True
            context["adminform"].form.fields["created_by"].help_text = "Nobody can own it yet: see the top of the page."
            context["add_user_url"] = add_user_url(self.admin_site, request)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return [*super().get_inlines(request, obj), *self.registered_inlines]

    def get_inline_formsets(
        self, request: HttpRequest, formsets: list[Any], inline_instances: list[Any], obj: Any = None, **kwargs: Any
    ) -> Any:
        """Read what the inlines list, while the view's transaction lasts."""
        for inline, formset in zip(inline_instances, formsets, strict=True):
            if obj and isinstance(inline, ListedInline) and inline.has_view_permission(request):
                formset.listing = inline.list_rows(request, obj)
        return super().get_inline_formsets(request, formsets, inline_instances, obj, **kwargs)

    def deletion_obstacles(self, records: Sequence[Record]) -> Refusals:
        """Those of these records that cannot be deleted."""
        obstacles = (*reversed(self.registered_obstacles), DeletionObstacle(self.hidden_among, "is already deleted"))
        return {record.pk: obstacle.reason for obstacle in obstacles for record in obstacle.find(records)}

    def hidden_among(self, records: Sequence[Record]) -> list[Record]:
        return [record for record in records if self.is_hidden(record)]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = [*self.record_fields, self.ended_column] if obj else [] if self.owner_follows else ["created_by"]
        return [
            *super().get_fieldsets(request, obj),
            *([("Record", {"fields": fields, "classes": [AFTER_INLINES]})] if fields else []),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = [*self.record_fields, self.ended_column]
        return [*super().get_readonly_fields(request, obj), *(name for name in fixed if obj or name != "created_by")]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not self.is_hidden(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not self.is_hidden(obj)

    def is_hidden(self, record: Record | None) -> bool:
        return record is not None and getattr(record, self.ended_column) is not None

    def why_unchangeable(self, request: HttpRequest, record: Record) -> str:
        if not (self.is_hidden(record) and self.has_change_permission(request)):
            return ""
        change = self.last_changes(record, [self.ended_column]).get(self.ended_column, "")
        return f"{f'This {self.opts.verbose_name} was {self.state_of(record)} {change}'.strip()}."

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        changed = form.changed_columns()
        if not change:
            obj.created_by_id = self.owner_id(form)
            obj.save()
        elif changed:
            obj.save(update_fields=changed)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """List the records themselves on the confirmation page: nothing else is deleted with them."""
        records = list(objs)
        listed = [self.link_to_record(record) for record in records]
        allowed = self.has_delete_permission(request)
        lacking = set() if allowed else {str(self.opts.verbose_name)}
        obstacles = self.deletion_obstacles(records)
        refused = [f"{self.describe_record(one)} {obstacles[one.pk]}." for one in records if one.pk in obstacles]
        return listed, {str(self.opts.verbose_name_plural): len(records)}, lacking, refused

    def delete_model(self, request: HttpRequest, obj: Record) -> None:
        self.records().filter(pk=obj.pk).end()

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Hide the records instead of deleting their rows, should anything still call Django's own action."""
        self.records().filter(pk__in=[record.pk for record in queryset]).end()
