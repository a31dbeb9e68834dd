"""The owner of a record in the admin: chosen by username when the record is added, and fixed afterwards. Forms ask for
other users in the same way."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest, JsonResponse
from django.urls import reverse

from healthcare.admin.autocomplete import IdSelect
from healthcare.admin.lists import SUGGESTIONS

TYPED = "username:"  # in front of a username that was typed where there is no script


def eligible_owners() -> Any:
    """The users who may own a record."""
    return get_user_model()._default_manager.get_queryset().may_own_records()


def suggest_users(users: Any, prefix: str) -> JsonResponse:
    """The first of these users, in alphabetical order, whose username begins with this text in any case; in the format
    of Django's autocomplete view, in one page."""
    text = prefix.strip().lower().replace("\0", "")
    found = users.filter(username__lower__startswith=text).order_by("username__lower").only("username")
    results = [{"id": str(user.pk), "text": user.get_username()} for user in found[:SUGGESTIONS]]
    return JsonResponse({"results": results, "pagination": {"more": False}})


def add_user_url(site: AdminSite, request: HttpRequest) -> str:
    """Where this member of staff adds a user; empty for one who may not."""
    user = get_user_model()
    if not site.get_model_admin(user).has_add_permission(request):
        return ""
    return reverse(f"{site.name}:{user._meta.app_label}_{user._meta.model_name}_add")


class OwnerSelect(IdSelect):
    """Suggests usernames to staff who may add records of the model, even if they may not view users. Without script it
    is a text field for the username, since the list of choices would be empty.

    suggestions: the last part of the name of the route that suggests users.
    typed_label: the label of the text field.
    """

    template_name = "admin/widgets/owner.html"
    suggestions = "owners"
    typed_label = "Username of the owner"

    def get_url(self) -> str:
        options = self.field.model._meta
        return reverse(f"{self.admin_site.name}:{options.app_label}_{options.model_name}_{self.suggestions}")

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        typed = value.removeprefix(TYPED) if isinstance(value, str) and value.startswith(TYPED) else ""
        return context | {"typed": typed, "typed_name": f"{name}_username", "typed_label": self.typed_label}

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        chosen = super().value_from_datadict(data, files, name)
        typed = data.get(f"{name}_username", "")
        return chosen or (f"{TYPED}{typed}" if typed else chosen)

    def use_required_attribute(self, initial: Any) -> bool:
        return False


class OwnerField(forms.ModelChoiceField):
    """An eligible owner, whose row stays locked until the record is saved: nobody deactivates the user meanwhile."""

    locks = True
    default_error_messages = {
        "required": "Choose the owner, who sees this record in the API.",
        "invalid_choice": "Choose the username of an active user who is not staff.",
    }

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None
        typed = isinstance(value, str) and value.startswith(TYPED)
        wanted = {"username__lower": value.removeprefix(TYPED).strip().lower()} if typed else {"pk": value}
        users: Any = self.queryset
        try:
            return (users.select_for_update(no_key=True) if self.locks else users).get(**wanted)
        except (ValueError, TypeError, self.queryset.model.DoesNotExist):  # type: ignore[union-attr]
            raise ValidationError(self.error_messages["invalid_choice"], code="invalid_choice") from None
