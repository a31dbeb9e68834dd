"""Invitations in JSON."""

from datetime import datetime

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.delegations.rules import INVALID_EXPIRY, is_valid_expiry
from accounts.invitations.codes import write_invitation
from accounts.invitations.models import Invitation
from healthcare.api.fields import DateTimeField, ModelSerializer
from healthcare.api.schema import example


@extend_schema_serializer(
    examples=example(
        request={"email": "asha@example.org", "expires_at": None},
        response={
            "id": 4, "invitation": "4-1795685400000000:uSlAWgXRY…", "email": "asha@example.org", "expires_at": None,
        },
    )
)  # fmt: skip
class InvitationSerializer(ModelSerializer):
    invitation = serializers.SerializerMethodField(
        help_text="What the invited person sends as `invitation` when they register. It is not shown again."
    )
    expires_at = DateTimeField(required=False, allow_null=True, help_text="A time in the future; null for no end.")

    class Meta:
        model = Invitation
        fields = ["id", "invitation", "email", "expires_at"]

    def get_invitation(self, invitation: Invitation) -> str:
        return write_invitation(invitation)

    def validate_expires_at(self, value: datetime | None) -> datetime | None:
        if not is_valid_expiry(value):
            raise serializers.ValidationError(INVALID_EXPIRY)
        return value
