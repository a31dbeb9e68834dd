"""Personal access tokens in JSON."""

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from accounts.models import LoginSession
from accounts.personal_tokens.rules import EXPIRY_OUT_OF_RANGE, NewToken, is_in_range
from accounts.second_factor.fields import OptionalOtpField
from accounts.serializers import PasswordField
from healthcare.api.fields import DateTimeField, ModelSerializer, TextField
from healthcare.api.schema import example

EXAMPLE_TOKEN = {
    "id": 9, "name": "Nightly export", "scope": "read", "acting_for": "sunrise", "created_at": "2026-11-26T09:30:00Z",
    "last_used_at": "2026-11-26T09:30:00Z", "expires_at": "2027-02-24T09:30:00Z",
}  # fmt: skip


@extend_schema_field({"type": ["string", "integer"]})
class OwnerNameField(TextField):
    """The username or the id of an owner; an id may be a number, too."""

    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(str(data) if type(data) is int and 0 < data < 2**63 else data)


@extend_schema_serializer(examples=example(response=EXAMPLE_TOKEN))
class PersonalTokenSerializer(ModelSerializer):
    """A personal access token without its secret."""

    acting_for = serializers.SerializerMethodField(
        help_text="The username of the owner to whose records the token is confined, or null."
    )

    class Meta:
        model = LoginSession
        fields = ["id", "name", "scope", "acting_for", "created_at", "last_used_at", "expires_at"]
        read_only_fields = fields

    @extend_schema_field({"type": ["string", "null"]})
    def get_acting_for(self, token: Any) -> str | None:
        """Of an owner whose account was deleted, who has no username any more, the id."""
        if token.acting_for is None:
            return None
        return token.owner_named["username"] if token.owner_named else str(token.acting_for)


@extend_schema_serializer(
    examples=example(
        request={
            "name": "Nightly export", "scope": "read", "acting_for": "sunrise", "current_password": "StrongPass123",
        }
    )
)  # fmt: skip
class NewPersonalTokenSerializer(ModelSerializer):
    scope = serializers.ChoiceField(
        LoginSession.Scope.choices,
        help_text="A `read` token writes nothing; a `write` token does both.",
        error_messages={"invalid_choice": "Write read or write."},
    )
    acting_for = OwnerNameField(
        required=False,
        allow_null=True,
        max_length=254,
        help_text="Confines the token to the records of this owner, by username or id. Without it the token acts for "
        "whom a request names in `X-Acting-For`, as a login does.",
    )
    expires_at = DateTimeField(
        required=False, allow_null=True, help_text="At most 365 days from now; 90 days if it is left out."
    )
    current_password = PasswordField()
    otp = OptionalOtpField()

    class Meta:
        model = LoginSession
        fields = ["name", "scope", "acting_for", "expires_at", "current_password", "otp"]
        extra_kwargs = {"name": {"required": True, "allow_blank": False}}

    def validate_expires_at(self, value: datetime | None) -> datetime | None:
        """Before the password is checked, since a wrong one counts."""
        if not is_in_range(value):
            raise serializers.ValidationError(EXPIRY_OUT_OF_RANGE)
        return value


@extend_schema_serializer(
    examples=example(
        response={
            "id": 9, "token": "hcp_9_1_6f0c…", "name": "Nightly export", "scope": "read", "acting_for": "sunrise",
            "expires_at": "2027-02-24T09:30:00Z",
        }
    )
)  # fmt: skip
class CreatedPersonalTokenSerializer(serializers.Serializer):
    """A new token. `token` is answered this once; the server stores a hash of it alone."""

    id = serializers.IntegerField(source="session.pk", read_only=True)
    token = serializers.CharField(source="text", read_only=True)
    name = serializers.CharField(source="session.name", read_only=True)
    scope = serializers.ChoiceField(LoginSession.Scope.choices, source="session.scope", read_only=True)
    acting_for = serializers.SerializerMethodField()
    expires_at = DateTimeField(source="session.expires_at", read_only=True)

    @extend_schema_field({"type": ["string", "null"]})
    def get_acting_for(self, token: NewToken) -> str | None:
        return token.owner.username if token.owner else None
