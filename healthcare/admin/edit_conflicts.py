"""Lost-update protection in the admin: a form saves only the columns that were changed on it, on a locked row."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.db import IntegrityError, models
from django.forms.boundfield import BoundField
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from rest_framework.exceptions import ValidationError as InvalidInput

from healthcare.admin.actions import ActionsAdmin
from healthcare.admin.autocomplete import AutocompleteAdmin
from healthcare.admin.clashes import Clash, Comparison, FieldOutcome, Unreadable, compare_field, value_in_words
from healthcare.admin.history import HistoryAdmin
from healthcare.admin.lists import ListAdmin
from healthcare.admin.submissions import ADDED, LOCATION, Submission, new_token
from healthcare.api.exceptions import Conflict
from healthcare.api.integrity_errors import broken_rule, fields_of_constraint
from healthcare.model_fields import ID_TEXT

CLASH_ERROR = "Somebody else has changed this meanwhile. Choose above which value to keep."


class ComparedBoundField(BoundField):
    """Renders as hidden initial data what the form carries, or the row's value once the page shows the clash. Django's
    repeats what was sent where an input has several names or none, and the next attempt would save nothing."""

    def as_hidden(self, attrs: dict[str, Any] | None = None, **kwargs: Any) -> SafeString:
        form: Any = self.form
        if not (kwargs.get("only_initial") and form.is_bound and self.name in form.compared_fields):
            return super().as_hidden(attrs, **kwargs)
        hidden: Any = self.field.hidden_widget()
        if self.name in form.clashing_fields:
            value = self.field.prepare_value(form.get_initial_for_field(self.field, self.name))
        else:
            value = hidden.value_from_datadict(form.data, form.files, self.html_initial_name)
        attributes = {"id": self.html_initial_id} if self.auto_id else {}
        return SafeString(hidden.render(self.html_initial_name, value, attributes, form.renderer))


class ConflictCheckingForm(forms.ModelForm):
    """Saves only the fields that the user changed. The others keep what is in the database now, which somebody else may
    have changed since the form was rendered. Where both changed a field to different values, nothing is saved until the
    user has chosen one: see `clashes`."""

    bound_field_class = ComparedBoundField
    # The messages of the constraint that the first attempt to save violated, by field.
    constraint_errors: ClassVar[Mapping[str, Sequence[str]]] = {}
    began_with_row = False  # whether the values were derived from those of the row as it is now, instead of sent

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.compared_fields:
            self.fields[name].show_hidden_initial = True

    @cached_property
    def compared_fields(self) -> dict[str, Any]:
        """The model's fields, by name, that a form for a record that exists compares with the row."""
        if not self.instance.pk:
            return {}
        options = self.instance._meta
        fields = [*options.concrete_fields, *options.many_to_many]
        return {
            field.name: field for field in fields if field.name in self.fields and not self.fields[field.name].disabled
        }

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        if not self.is_bound:
            return {}
        return {
            name: compare_field(
                self[name], field, self.get_initial_for_field(self.fields[name], name), has_base=not self.began_with_row
            )
            for name, field in self.compared_fields.items()
        }

    @property
    def clashing_fields(self) -> list[str]:
        return [name for name, found in self.comparisons.items() if found.outcome is FieldOutcome.CLASH]

    @cached_property
    def changed_data(self) -> list[str]:
        compared = self.comparisons
        others = [name for name, bound in self._bound_items() if name not in compared and bound._has_changed()]  # type: ignore[attr-defined]
        return [*(name for name, found in compared.items() if found.outcome is not FieldOutcome.KEPT), *others]

    def _clean_fields(self) -> None:
        super()._clean_fields()  # type: ignore[misc]
        for name, comparison in self.comparisons.items():
            if comparison.outcome is FieldOutcome.KEPT:
                self.errors.pop(name, None)  # a value that is not saved need not be valid
                self.cleaned_data[name] = self.stored_value(name)
            elif comparison.outcome is FieldOutcome.CLASH:
                self.add_error(name, ValidationError(CLASH_ERROR, "clash"))
            elif self.compared_fields[name].many_to_many:
                self.clean_keys(name, comparison)

    def stored_value(self, name: str) -> Any:
        return self.initial[name] if self.compared_fields[name].many_to_many else getattr(self.instance, name)

    def clean_keys(self, name: str, comparison: Comparison) -> None:
        """The keys of a many-to-many field, with what others have added and removed since. Only an added key has to be
        a valid choice."""
        field: Any = self.fields[name]
        added = comparison.mine - comparison.now
        chosen = field.queryset.filter(pk__in=[key for key in added if ID_TEXT.match(key)])
        if len(chosen) == len(added):
            self.errors.pop(name, None)
            stayed = [one for one in self.initial[name] if str(one.pk) in comparison.mine]
            self.cleaned_data[name] = [*stayed, *chosen]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for name, found in self.constraint_errors.items():
            self.add_error(name if name in self.fields else None, list(found))
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """Without the fields that keep their values: the database checks the constraints that compare them."""
        kept = {name for name, found in self.comparisons.items() if found.outcome is FieldOutcome.KEPT}
        exclusions: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return exclusions | kept

    def _update_errors(self, errors: ValidationError) -> None:
        """Report a violated constraint beside the field that is to blame, instead of above the form."""
        by_field = getattr(errors, "error_dict", {})
        for error in by_field.pop(NON_FIELD_ERRORS, []):
            by_field.setdefault(self.field_to_blame(error) or NON_FIELD_ERRORS, []).append(error)
        super()._update_errors(errors)  # type: ignore[misc]

    def field_to_blame(self, error: ValidationError) -> str | None:
        """A changed field of the constraint that has this message if possible, else its first one on the form."""
        for _, constraints in self.instance.get_constraints():
            for constraint in constraints:
                if error.message == constraint.get_violation_error_message():
                    fields = [name for name in fields_of_constraint(constraint) if name in self.fields]
                    return next((name for name in fields if name in self.changed_data), fields[0] if fields else None)
        return None

    def changed_columns(self) -> list[str]:
        """The columns whose new value differs from the row's, those that `clean` derives included."""
        columns = {field.name for field in self.instance._meta.concrete_fields}
        values = {name: self.cleaned_data[name] for name in columns & self.cleaned_data.keys()}
        return [name for name, value in values.items() if getattr(value, "pk", value) != self.initial.get(name)]

    def describe_clashes(self, changed_by: Mapping[str, str]) -> list[Clash]:
        """The clashes in words. `changed_by` says of each field who changed it last, and when."""
        found = []
        for name in self.clashing_fields:
            comparison, field = self.comparisons[name], self.fields[name]
            base, now = value_in_words(field, comparison.base), value_in_words(field, comparison.now)
            sent = self.sent_in_words(name)
            found.append(Clash(name, str(self[name].label), base, now, sent, changed_by.get(name, "")))
        return found

    def sent_in_words(self, name: str) -> str:
        mine, field = self.comparisons[name].mine, self.fields[name]
        if self.compared_fields[name].many_to_many:
            choices: Any = field
            return "\n".join(map(str, choices.queryset.filter(pk__in=[key for key in mine if ID_TEXT.match(key)])))
        if isinstance(mine, Unreadable):
            sent = self[name].data
            return " ".join(sent) if isinstance(sent, list) and all(isinstance(one, str) for one in sent) else str(sent)
        return value_in_words(field, mine)

    def describe_sent(self) -> list[tuple[str, str]]:
        """The label of each field that the user changed, and what was sent."""
        changed = [name for name, found in self.comparisons.items() if found.mine != found.base]
        return [(str(self[name].label), self.sent_in_words(name)) for name in changed]


class ConflictCheckingAdmin(HistoryAdmin, ActionsAdmin, ListAdmin, AutocompleteAdmin):
    """Locks the row that is being changed, saves only changed columns, and reports violated constraints on the form."""

    form = ConflictCheckingForm

    def get_queryset(self, request: HttpRequest) -> Any:
        related = self.list_select_related  # Django applies it to the list alone
        rows = super().get_queryset(request)
        return rows.select_related(*related) if isinstance(related, list) else rows

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        record = super().get_object(request, object_id, from_field)
        if record is None or request.method != "POST":
            return record
        rows = self.get_queryset(request).filter(pk=record.pk)
        request.posted_record = rows.select_for_update(of=("self",), no_key=True).first()  # type: ignore[attr-defined]
        return request.posted_record  # type: ignore[attr-defined]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The values of the address for a new record, but for times and lists: their widgets raise on a text."""
        given = super().get_changeform_initial_data(request)
        kinds = (models.DateTimeField, models.JSONField)
        unreadable = {field.name for field in self.opts.concrete_fields if isinstance(field, kinds)}
        return {name: value for name, value in given.items() if name not in unreadable}

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.constraint_errors = getattr(request, "constraint_errors", {})  # Django builds a form class per request
        return form

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Save a form that is sent twice once, and answer one that cannot be saved any more with what was typed."""
        submission = Submission.of(request) if request.method == "POST" else None
        if submission and (stored := submission.claim()):
            return self.repeat_answer(request, stored)
        try:
            response: HttpResponse = self.save_or_explain(request, object_id, *args, **kwargs)
        except PermissionDenied:
            record = getattr(request, "posted_record", None)
            if record is None or not (reason := self.why_unchangeable(request, record)):
                raise
            return self.show_unsaved(request, record, reason)
        if submission:
            submission.store(response, getattr(request, "added_record", None))
        return response

    def repeat_answer(self, request: HttpRequest, stored: Mapping[str, str]) -> HttpResponse:
        """The answer to a form that was saved before. That of a popup hands the added record to the page below it."""
        if path := stored.get(LOCATION):
            self.message_user(request, "This form was sent twice. It was saved once.", messages.INFO)
            filters: Any = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
            return HttpResponseRedirect(add_preserved_filters(filters, path))
        if not self.has_add_permission(request):
            raise PermissionDenied
        added = self.get_queryset(request).filter(pk=stored[ADDED]).first()
        return (
            self.response_add(request, added)
            if added
            else self.show_unsaved(request, None, f"This {self.opts.verbose_name} no longer exists.")
        )

    def response_add(self, request: HttpRequest, obj: Any, *args: Any, **kwargs: Any) -> Any:
        request.added_record = obj  # type: ignore[attr-defined]
        return super().response_add(request, obj, *args, **kwargs)

    def save_or_explain(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Report what the database or the API's code refuses on the form, also when two requests race."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (IntegrityError, Conflict, InvalidInput) as error:
            rule = broken_rule(error) if isinstance(error, IntegrityError) else error
            if rule is None:
                raise
            # A conflict with other rows concerns no field of the form.
            by_field = rule.detail if isinstance(rule.detail, dict) else {NON_FIELD_ERRORS: [str(rule.detail)]}
            request.constraint_errors = by_field  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    def why_unchangeable(self, request: HttpRequest, record: Any) -> str:
        """Why a record that was changeable when its form was rendered no longer is, in a sentence; else empty."""
        return ""

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        is_form = request.resolver_match and str(request.resolver_match.url_name).endswith("_change")
        if request.method == "POST" and is_form and self.has_change_permission(request):
            return self.show_unsaved(request, None, f"This {opts.verbose_name} no longer exists.")
        redirect: HttpResponse = super()._get_obj_does_not_exist_redirect(request, opts, object_id)  # type: ignore[misc]
        return redirect

    def show_unsaved(self, request: HttpRequest, record: Any, reason: str) -> TemplateResponse:
        """The page with what was typed on a form that cannot be saved, to copy from (409)."""
        instance = record or self.model(pk=-1)
        form = self.get_form(request, instance, change=False)(request.POST, request.FILES, instance=instance)
        routes = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}"
        context = {
            **self.admin_site.each_context(request),
            "title": f"The {self.opts.verbose_name} was not saved",
            "opts": self.opts,
            "object": record,
            "reason": reason,
            "state": self.state(record) if record and hasattr(self, "state") else "",
            "sent": form.describe_sent(),
            "list_url": reverse(f"{routes}_changelist"),
            "record_url": reverse(f"{routes}_change", args=[record.pk]) if record else "",
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/unsaved.html", context, status=409)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The form, with the clashes of a refused one side by side."""
        context["submission"] = new_token()
        form, record = context["adminform"].form, context["original"]
        if record and form.is_bound and (names := getattr(form, "clashing_fields", [])):
            context["clashes"] = form.describe_clashes(self.last_changes(record, names))
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=form.changed_columns())
        else:
            super().save_model(request, obj, form, change)
