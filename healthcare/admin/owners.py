"""The owner of a record in the admin: chosen by username when the record is added, and fixed afterwards."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse

from healthcare.admin.autocomplete import IdSelect
from healthcare.admin.lists import SUGGESTIONS

TYPED = "username:"  # in front of a username that was typed where there is no script


def eligible_owners() -> Any:
    """The users who may own a record."""
    return get_user_model()._default_manager.get_queryset().may_own_records()


def suggest_owners(prefix: str) -> list[Any]:
    """The first eligible owners, in alphabetical order, whose username begins with this text in any case."""
    text = prefix.strip().lower().replace("\0", "")
    owners = eligible_owners().filter(username__lower__startswith=text)
    return list(owners.order_by("username__lower").only("username")[:SUGGESTIONS])


def add_user_url(site: AdminSite, request: HttpRequest) -> str:
    """Where this member of staff adds a user; empty for one who may not."""
    user = get_user_model()
    if not site.get_model_admin(user).has_add_permission(request):
        return ""
    return reverse(f"{site.name}:{user._meta.app_label}_{user._meta.model_name}_add")


class OwnerSelect(IdSelect):
    """Suggests usernames to staff who may add records of the model, even if they may not view users. Without script it
    is a text field for the username, since the list of choices would be empty."""

    template_name = "admin/widgets/owner.html"

    def get_url(self) -> str:
        options = self.field.model._meta
        return reverse(f"{self.admin_site.name}:{options.app_label}_{options.model_name}_owners")

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        typed = value.removeprefix(TYPED) if isinstance(value, str) and value.startswith(TYPED) else ""
        return context | {"typed": typed, "typed_name": f"{name}_username"}

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        chosen = super().value_from_datadict(data, files, name)
        typed = data.get(f"{name}_username", "")
        return chosen or (f"{TYPED}{typed}" if typed else chosen)

    def use_required_attribute(self, initial: Any) -> bool:
        return False


class OwnerField(forms.ModelChoiceField):
    """An eligible owner, whose row stays locked until the record is saved: nobody deactivates the user meanwhile."""

    default_error_messages = {
        "required": "Choose the owner, who sees this record in the API.",
        "invalid_choice": "Choose the username of an active user who is not staff.",
    }

    def to_python(self, value: Any) -> Any:
        if value in self.empty_values:
            return None
        typed = isinstance(value, str) and value.startswith(TYPED)
        wanted = {"username__lower": value.removeprefix(TYPED).strip().lower()} if typed else {"pk": value}
        try:
            return self.queryset.select_for_update(no_key=True).get(**wanted)  # type: ignore[union-attr]
        except (ValueError, TypeError, self.queryset.model.DoesNotExist):  # type: ignore[union-attr]
            raise ValidationError(self.error_messages["invalid_choice"], code="invalid_choice") from None
