"""Clinics, delegations, notices and audiences in JSON."""

from datetime import datetime
from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from accounts.delegations.models import DelegateRole, Delegation, Notice
from accounts.delegations.rules import INVALID_EXPIRY, is_valid_expiry
from accounts.identifiers import NOT_AN_ID, NOT_RESERVED, USERNAME
from accounts.models import User
from healthcare.api.fields import DateTimeField, ModelSerializer, TextField, VerbatimField
from healthcare.api.schema import example

NO_EMAIL = RegexValidator("@", "Leave the @ out: a clinic has no e-mail.", inverse_match=True)
EXAMPLE_CLINIC = {"id": 7, "username": "sunrise", "name": "Sunrise Clinic"}
EXAMPLE_MANAGER = {"id": 1, "username": "asha", "name": "Asha Nair"}
EXAMPLE_DELEGATE = {"id": 2, "username": "ben", "name": "Ben Otieno"}
EXAMPLE_DELEGATION = {
    "id": 3, "owner": EXAMPLE_CLINIC, "delegate": EXAMPLE_DELEGATE, "role": "write", "note": "",
    "created_at": "2026-11-26T09:30:00Z", "expires_at": None, "revoked_at": None,
}  # fmt: skip


class NamedUserSerializer(serializers.Serializer):
    """A user as others see them."""

    id = serializers.IntegerField()
    username = serializers.CharField(read_only=True)
    name = serializers.CharField(read_only=True)


@extend_schema_serializer(examples=example(request={"name": "Sunrise Clinic"}, response=EXAMPLE_CLINIC))
class ClinicSerializer(ModelSerializer):
    """A clinic: an owner of records whom nobody logs in to."""

    class Meta:
        model = User
        fields = ["id", "name", "username"]
        read_only_fields = ["username"]


@extend_schema_serializer(examples=example(request={"name": "Sunrise Clinic", "username": "sunrise"}))
class NewClinicSerializer(ModelSerializer):
    username = VerbatimField(max_length=254, validators=[USERNAME, NOT_RESERVED, NOT_AN_ID, NO_EMAIL])

    class Meta:
        model = User
        fields = ["id", "name", "username"]


@extend_schema_serializer(examples=example(request={"role": "manage", "expires_at": None}, response=EXAMPLE_DELEGATION))
class DelegationSerializer(ModelSerializer):
    """An owner lets a delegate act for them."""

    owner = NamedUserSerializer(source="owner_named", read_only=True)
    delegate = NamedUserSerializer(source="delegate_named", read_only=True)
    expires_at = DateTimeField(required=False, allow_null=True, help_text="A time in the future; null for no end.")

    class Meta:
        model = Delegation
        fields = ["id", "owner", "delegate", "role", "note", "created_at", "expires_at", "revoked_at"]
        read_only_fields = ["created_at", "revoked_at"]
        extra_kwargs = {
            "role": {
                "help_text": "`read` sees everything of the owner's; `write` also creates, changes, and ends "
                "assignments; `manage` also deletes, restores, merges, transfers, imports, and manages delegations.",
                "error_messages": {"invalid_choice": "Write read, write or manage."},
            }
        }


@extend_schema_serializer(examples=example(request={"delegate": "ben", "role": "write"}))
class NewDelegationSerializer(DelegationSerializer):
    delegate = TextField(max_length=254, help_text="The username or the e-mail of the delegate.")  # type: ignore[assignment]

    def validate_expires_at(self, value: datetime | None) -> datetime | None:
        """Before the delegate is looked up, since an unknown one counts."""
        if not is_valid_expiry(value):
            raise serializers.ValidationError(INVALID_EXPIRY)
        return value


@extend_schema_serializer(
    examples=example(
        response={
            "id": 5, "at": "2026-11-26T09:30:00Z", "kind": "delegation_given", "by": EXAMPLE_MANAGER,
            "about": {
                "id": 3, "owner": EXAMPLE_CLINIC, "delegate": EXAMPLE_DELEGATE, "role": "write", "expires_at": None,
            },
        }
    )
)  # fmt: skip
class NoticeSerializer(ModelSerializer):
    """What another user has done that concerns the caller, or a clinic that the caller manages."""

    by = serializers.SerializerMethodField(help_text="Who has done it; null for the server.")
    about = serializers.SerializerMethodField(help_text="The delegation or the transfer, without data of the patient.")

    class Meta:
        model = Notice
        fields = ["id", "at", "kind", "by", "about"]
        read_only_fields = fields

    @extend_schema_field(NamedUserSerializer(allow_null=True))
    def get_by(self, notice: Any) -> Any:
        return notice.by_named

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_about(self, notice: Notice) -> Any:
        return notice.about


@extend_schema_serializer(
    examples=example(response={**EXAMPLE_CLINIC, "role": "write", "expires_at": None}),
)
class ActingForSerializer(serializers.Serializer):
    """An owner for whom the caller may act, and in which role."""

    id = serializers.IntegerField(source="owner.id")
    username = serializers.CharField(source="owner.username", read_only=True)
    name = serializers.CharField(source="owner.name", read_only=True)
    role = serializers.ChoiceField(DelegateRole.choices)
    expires_at = DateTimeField(allow_null=True)


@extend_schema_serializer(
    examples=example(response={**EXAMPLE_DELEGATE, "basis": "delegate", "role": "write", "expires_at": None}),
)
class AudienceSerializer(NamedUserSerializer):
    """A user who sees the patient: the owner, without a role, or a delegate."""

    basis = serializers.ChoiceField([("owner", "owner"), ("delegate", "delegate")])
    role = serializers.ChoiceField(DelegateRole.choices, allow_null=True)
    expires_at = DateTimeField(allow_null=True)
