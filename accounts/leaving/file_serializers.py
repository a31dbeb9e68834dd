"""The document of everything that is stored about an account, in JSON. It holds no hash and no secret."""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from accounts.delegations.models import Delegation, Notice
from accounts.delegations.serializers import NamedUserSerializer
from accounts.invitations.models import Invitation
from accounts.models import Attempts, LoginAddress, LoginSession, User
from accounts.second_factor.codes import STEP
from accounts.second_factor.models import SecondFactor
from audit.models import AccessLog
from audit.serializers import EventSerializer
from healthcare.api.fields import DateTimeField, ModelSerializer
from healthcare.imports.models import Import


class ReadOnlyFields:
    """For a serializer of what is stored: no client writes it."""

    def get_fields(self) -> Any:
        fields = super().get_fields()  # type: ignore[misc]
        for field in fields.values():
            field.read_only = True
        return fields


class AccountDataSerializer(ReadOnlyFields, ModelSerializer):
    class Meta:
        model = User
        fields = [
            "id", "name", "email", "verified_email", "pending_email", "username", "is_active", "is_staff",
            "is_superuser", "is_clinic", "created_at", "last_login",
        ]  # fmt: skip


@extend_schema_serializer(component_name="AccountEvent")
class AccountEventSerializer(EventSerializer):
    """A change of the account."""

    version = None  # type: ignore[assignment]  # users have none


@extend_schema_serializer(component_name="DelegationEvent")
class DelegationEventSerializer(AccountEventSerializer):
    """A change of a delegation."""

    delegation = serializers.IntegerField(source="id")


class SessionDataSerializer(ReadOnlyFields, ModelSerializer):
    class Meta:
        model = LoginSession
        fields = [
            "id", "user_agent", "address", "acting_for", "created_at", "rotated_at", "last_used_at", "expires_at",
            "revoked_at",
        ]  # fmt: skip


class TokenDataSerializer(ReadOnlyFields, ModelSerializer):
    scope = serializers.CharField(help_text="`read` or `write`.")

    class Meta:
        model = LoginSession
        fields = ["id", "name", "scope", *SessionDataSerializer.Meta.fields[1:]]


class LoginAddressSerializer(ReadOnlyFields, ModelSerializer):
    class Meta:
        model = LoginAddress
        fields = ["network", "last_login_at"]


class AttemptsSerializer(ReadOnlyFields, ModelSerializer):
    kind = serializers.CharField(help_text="What is counted.")

    class Meta:
        model = Attempts
        fields = ["kind", "count", "until"]


class SecondFactorSerializer(ReadOnlyFields, ModelSerializer):
    last_code_at = serializers.SerializerMethodField(help_text="When the last accepted code was shown by the app.")
    recovery_codes = serializers.SerializerMethodField(help_text="How many are left.")

    class Meta:
        model = SecondFactor
        fields = ["created_at", "confirmed_at", "last_code_at", "recovery_codes"]

    @extend_schema_field(DateTimeField(allow_null=True))
    def get_last_code_at(self, factor: SecondFactor) -> Any:
        if factor.last_step is None:
            return None
        return DateTimeField().to_representation(datetime.fromtimestamp(factor.last_step * STEP, UTC))

    def get_recovery_codes(self, factor: SecondFactor) -> int:
        return factor.recovery_codes.count()


class DelegationDataSerializer(ReadOnlyFields, ModelSerializer):
    owner = NamedUserSerializer(source="owner_named")
    delegate = NamedUserSerializer(source="delegate_named")

    class Meta:
        model = Delegation
        fields = ["id", "owner", "delegate", "role", "note", "created_at", "expires_at", "revoked_at"]


class NoticeDataSerializer(ReadOnlyFields, ModelSerializer):
    by = NamedUserSerializer(source="by_named", allow_null=True)
    about = serializers.SerializerMethodField()

    class Meta:
        model = Notice
        fields = ["id", "at", "kind", "by", "about", "read_at"]

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_about(self, notice: Notice) -> Any:
        return notice.about


class InvitationDataSerializer(ReadOnlyFields, ModelSerializer):
    class Meta:
        model = Invitation
        fields = ["id", "email", "created_by", "created_at", "expires_at", "used_at", "used_by"]


class ImportDataSerializer(ReadOnlyFields, ModelSerializer):
    """An import of records that belong to `created_by`, by `caller`. Its lines are in the API (/api/imports/)."""

    caller = serializers.IntegerField()
    summary = serializers.DictField(child=serializers.IntegerField(), help_text="The number of lines, by status.")

    class Meta:
        model = Import
        fields = ["id", "created_by", "caller", "kind", "created_at", "summary", "undone_at"]


class AdminEntrySerializer(serializers.Serializer):
    """An entry of the admin's log, by this user or about the account. What it says of other records is left out: it may
    name other people."""

    at = DateTimeField(source="action_time")
    action = serializers.CharField(source="get_action_flag_display", read_only=True)
    model = serializers.SerializerMethodField()
    object_id = serializers.CharField(allow_null=True, read_only=True)
    by = serializers.IntegerField(source="user_id")

    def get_model(self, entry: Any) -> str:
        return f"{entry.content_type.app_label}.{entry.content_type.model}" if entry.content_type else ""


class AccessEntrySerializer(ReadOnlyFields, ModelSerializer):
    patient_ids = serializers.ListField(child=serializers.IntegerField())
    basis = serializers.CharField(help_text="`owner`, `delegate` or `staff`.")

    class Meta:
        model = AccessLog
        fields = ["id", "at", "action", "patient_ids", "basis", "request_id", "outcome"]


class AccessesSerializer(serializers.Serializer):
    """A part of the access log, the latest entry first."""

    entries = AccessEntrySerializer(many=True)
    before = serializers.IntegerField(
        allow_null=True,
        help_text="Send it as `access_log_before` to get the part before this one; null if it is the first.",
    )


class AccountFileSerializer(serializers.Serializer):
    """Everything that is stored about an account, but for hashes and secrets. Each list has the latest first."""

    account = AccountDataSerializer()
    history = AccountEventSerializer(many=True)
    sessions = SessionDataSerializer(many=True)
    tokens = TokenDataSerializer(many=True)
    login_addresses = LoginAddressSerializer(many=True)
    attempts = AttemptsSerializer(many=True)
    second_factor = SecondFactorSerializer(allow_null=True)
    delegations_given = DelegationDataSerializer(many=True)
    delegations_received = DelegationDataSerializer(many=True)
    delegation_history = DelegationEventSerializer(many=True)
    notices = NoticeDataSerializer(many=True)
    imports = ImportDataSerializer(many=True)
    invitations_made = InvitationDataSerializer(many=True)
    invitations_used = InvitationDataSerializer(many=True)
    invitations_received = InvitationDataSerializer(many=True)
    groups = serializers.ListField(child=serializers.CharField())
    permissions = serializers.ListField(child=serializers.CharField())
    admin_log = AdminEntrySerializer(many=True)
    stored_answers = serializers.IntegerField(
        help_text="How many answers are kept for repeated requests with an `Idempotency-Key`, for 24 hours."
    )
    records = serializers.DictField(
        child=serializers.IntegerField(), help_text="How many records belong to the account, by kind."
    )
    other = serializers.DictField(
        child=serializers.ListField(child=serializers.DictField()),
        help_text="What the other parts of the application store about the account, by name.",
    )
    access_log = AccessesSerializer(help_text="The reads of patients by this user. It names patients by their ids.")
    shortened = serializers.ListField(
        child=serializers.CharField(), help_text="The lists that have only their latest 10,000 rows here."
    )
