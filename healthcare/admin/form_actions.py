"""Actions of an admin's list whose preview has a form, such as one for the reason."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from healthcare.admin.actions import CONFIRMED, ActionsAdmin, PreviewedAction
from healthcare.characters import visible_text
from healthcare.model_fields import one_visible_line


def reason_field(help_text: str) -> forms.CharField:
    return forms.CharField(
        max_length=200,
        label="Reason",
        help_text=help_text,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        validators=[one_visible_line],
    )


class ReasonForm(forms.Form):
    """A reason, in one line."""

    reason = reason_field("One line for the log, such as the number of the request. No names, and no data of patients.")

    def clean_reason(self) -> str:
        return visible_text(self.cleaned_data["reason"])


class FormAction(PreviewedAction):
    """An action that does nothing before the form on its preview is valid.

    form_class: the form; its fields must not be named like those of the preview.
    """

    form_class: ClassVar[type[forms.Form]]
    template = "admin/action_form.html"

    def page(self, model_admin: ActionsAdmin, request: HttpRequest, context: dict[str, Any]) -> TemplateResponse:
        form = self.sent_form(request) if CONFIRMED in request.POST else self.form_class()
        details = self.describe(context["possible_records"])
        return super().page(model_admin, request, {**context, "form": form, "details": details})

    def confirm(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        if not self.sent_form(request).is_valid():
            return self.preview(model_admin, request, ids)
        return super().confirm(model_admin, request, ids)

    def sent_form(self, request: HttpRequest) -> forms.Form:
        """The form that was sent, checked once a request."""
        if not hasattr(request, "action_form"):
            request.action_form = self.form_class(request.POST)  # type: ignore[attr-defined]
        form: forms.Form = request.action_form  # type: ignore[attr-defined]
        return form

    def describe(self, records: Sequence[Any]) -> list[str]:
        """Sentences about what belongs to the records that it will be done to."""
        return []
