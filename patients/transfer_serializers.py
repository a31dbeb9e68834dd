"""A transfer in JSON. It holds no data of the patient."""

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from accounts.delegations.serializers import NamedUserSerializer
from healthcare.api.acting_for import owner_of
from healthcare.api.fields import DateTimeField, TextField
from healthcare.api.schema import example
from patients.models import PatientTransfer, TransferState

EXAMPLE_TRANSFER = {
    "id": 1, "direction": "given", "from": {"id": 1, "username": "asha", "name": "Asha Rao"},
    "to": {"id": 2, "username": "sunrise", "name": "Sunrise Clinic"}, "state": "pending",
    "expires_at": "2026-11-29T09:30:00Z",
}  # fmt: skip


@extend_schema_serializer(examples=example(response=EXAMPLE_TRANSFER))
class TransferSerializer(serializers.Serializer):
    """An offer of a patient to another owner. It tells nothing about the patient."""

    id = serializers.IntegerField()
    direction = serializers.SerializerMethodField(help_text="`given` by the owner of the request, or `received`.")
    to = NamedUserSerializer(source="named_to")
    state = serializers.ChoiceField(source="current_state", choices=TransferState.choices)
    expires_at = DateTimeField()

    def get_fields(self) -> dict[str, serializers.Field]:
        """With the field `from`, a keyword of Python, which cannot be an attribute of the class."""
        fields = super().get_fields()
        sender = NamedUserSerializer(source="named_from")
        return {"id": fields.pop("id"), "direction": fields.pop("direction"), "from": sender, **fields}

    @extend_schema_field({"type": "string", "enum": ["given", "received"]})
    def get_direction(self, transfer: PatientTransfer) -> str:
        return "given" if transfer.from_owner_id == owner_of(self.context["request"]).pk else "received"


@extend_schema_serializer(examples=example(request={"to": "sunrise"}))
class OfferSerializer(serializers.Serializer):
    """Whom the patient is offered to."""

    to = TextField(max_length=254, help_text="The username or the e-mail of another owner.")

    def to_representation(self, instance: Any) -> Any:
        return TransferSerializer(instance, context=self.context).data
