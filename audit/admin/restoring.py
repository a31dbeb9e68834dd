"""Restoring an earlier version of a record: a preview, then a change like any other, by the rules of the form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pghistory
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.forms import BaseForm, MultiWidget
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from audit.admin.wording import Users, value_text
from audit.history import event_model_of
from audit.serializers import BOOKKEEPING
from healthcare.admin.labels import field_label
from healthcare.admin.object_lists import ObjectRowsWidget
from healthcare.admin.value_texts import local_time
from healthcare.api.integrity_errors import broken_rule

CHANGED_MEANWHILE = "The record was changed after this page was opened. Compare again: “Now” shows the new values."


@dataclass(frozen=True)
class Difference:
    """A field that the version holds with another value than the record. `errors` say why it cannot be restored."""

    label: str
    now: str
    then: str
    errors: list[str]


class Restoration:
    """The restoration of one version of a record. What the form does not let staff edit is not restored: the owner,
    the times, the state, and of an assignment patient and doctor."""

    def __init__(self, model_admin: Any, request: HttpRequest, record: Any, event: Any) -> None:
        self.model_admin, self.request, self.record, self.event = model_admin, request, record, event
        self.fields = {field.name: field for field in record._meta.concrete_fields}
        differing = {name: field for name, field in self.fields.items() if self.differs(field)}
        self.now = {name: getattr(record, field.attname) for name, field in differing.items()}
        self.version, self.description = record.version, getattr(model_admin, "describe_record", str)(record)
        form_class = model_admin.get_form(request, record, change=True)
        self.restorable = [name for name in differing if name in form_class.base_fields]
        self.kept = [name for name in differing if name not in {*self.restorable, *BOOKKEEPING}]
        self.form = form_class(self.data(form_class(instance=record)), instance=record)
        self.form.began_with_row = True  # which is locked
        self.form.is_valid()

    def differs(self, field: Any) -> bool:
        missing = not hasattr(self.event, field.attname)
        return not missing and getattr(self.event, field.attname) != getattr(self.record, field.attname)

    def data(self, form: BaseForm) -> dict[str, Any]:
        """What a browser would send if somebody typed the values of the version into the form of now."""
        data: dict[str, Any] = {}
        for name, field in form.fields.items():
            then = getattr(self.event, self.fields[name].attname) if name in self.restorable else form[name].initial
            value = field.prepare_value(then)
            if isinstance(field.widget, MultiWidget):
                widget: Any = field.widget
                parts = zip(widget.widgets_names, widget.decompress(value), strict=True)
                data |= {f"{form[name].html_name}{suffix}": part for suffix, part in parts}
            elif isinstance(field.widget, ObjectRowsWidget):
                data |= field.widget.as_sent(form[name].html_name, value)
            else:
                data[form[name].html_name] = value
        return data

    def refusal(self) -> str:
        """Why the version cannot be restored, whatever it holds; empty if it can."""
        if self.model_admin.has_change_permission(self.request, self.record):
            return str(self.model_admin.why_not_restorable(self.record, self.event.version))
        kind, state = self.model_admin.opts.verbose_name, self.model_admin.state_of(self.record)
        undo = "Undo the merge" if state == "merged" else f"Restore the {kind}"
        return f"This {kind} is {state}. {undo} first, then restore the version."

    def save(self) -> bool:
        """Change the record, and return whether that was possible; the form holds the reasons why not."""
        if self.form.errors:
            return False
        reason = f"Restored version {self.event.version}"
        try:
            with transaction.atomic(), pghistory.context(reason=reason):
                changed = self.model_admin.save_form(self.request, self.form, change=True)
                self.model_admin.save_model(self.request, changed, self.form, change=True)
        except IntegrityError as error:
            rule = broken_rule(error)
            if rule is None:
                raise
            self.add_errors(rule.detail)
            return False
        self.model_admin.log_change(self.request, changed, f"{reason}.")
        return True

    def add_errors(self, detail: Any) -> None:
        by_field: Mapping[str, Any] = detail if isinstance(detail, dict) else {"": detail}
        for name, found in by_field.items():
            texts = [str(text) for text in (found if isinstance(found, list) else [found])]
            self.form.add_error(name if name in self.form.fields else None, texts)

    def differences(self) -> list[Difference]:
        then = {name: getattr(self.event, self.fields[name].attname) for name in self.restorable}
        named = [name for name in self.restorable if self.fields[name].related_model is get_user_model()]
        users = Users(key for name in named for key in (self.now[name], then[name]))
        return [
            Difference(
                label=field_label(self.fields[name]),
                now=value_text(self.fields[name], self.now[name], users),
                then=value_text(self.fields[name], then[name], users),
                errors=[*map(str, self.form.errors.get(name, []))],
            )
            for name in self.restorable
        ]

    def preview(self, problem: str = "") -> TemplateResponse:
        """The page that compares the version with the record; it has a button if the version can be restored."""
        errors = [
            f"{self.form[name].label}: {text}" if name in self.form.fields else str(text)
            for name, found in self.form.errors.items()
            if name not in self.restorable
            for text in found
        ]
        context = {
            **self.model_admin.admin_site.each_context(self.request),
            "title": f"Restore version {self.event.version} of {self.model_admin.opts.verbose_name} {self.description}",
            "opts": self.model_admin.opts,
            "object": self.record,
            "description": self.description,
            "written_at": local_time(self.event.pgh_created_at),
            "version": self.event.version,
            "compared_with": self.version,
            "differences": self.differences(),
            "kept": [field_label(self.fields[name]) for name in self.kept],
            "problem": problem or self.refusal(),
            "errors": errors,
            "may_submit": bool(self.restorable) and not self.refusal() and not self.form.errors,
        }
        self.request.current_app = self.model_admin.admin_site.name
        return TemplateResponse(self.request, "admin/record_version_restore.html", context)


def restore_version(model_admin: Any, request: HttpRequest, record: Any, event_id: int) -> HttpResponse:
    """The preview of a version; after its form was sent, the history with the restored version on top."""
    event = event_model_of(type(record)).objects.filter(pk=event_id, id=record.pk).first()
    if event is None:
        raise Http404
    request.displayed_records = [record, event]  # type: ignore[attr-defined]  # their reads are recorded
    restoration = Restoration(model_admin, request, record, event)
    if request.method != "POST" or restoration.refusal():
        return restoration.preview()
    if request.POST.get("compared_with") != str(restoration.version):
        return restoration.preview(CHANGED_MEANWHILE)
    if not restoration.restorable or not restoration.save():
        return restoration.preview()
    name = f"{model_admin.opts.verbose_name} {record.pk}"
    messages.success(request, f"Version {event.version} of {name} was restored. Its history shows what changed.")
    options = model_admin.opts
    return redirect(f"{model_admin.admin_site.name}:{options.app_label}_{options.model_name}_history", record.pk)
