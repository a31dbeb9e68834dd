"""Serializers of /api/auth/."""

from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed

from accounts.delegations.audience import delegations_to
from accounts.delegations.serializers import ActingForSerializer
from accounts.identifiers import NOT_RESERVED, USERNAME
from accounts.invitations.codes import lock_invitation, use_invitation
from accounts.models import LoginSession, User
from accounts.passwords import prepare_password
from accounts.second_factor.fields import OptionalOtpField
from healthcare.api.fields import ModelSerializer, TextField, TrueOrFalseField, VerbatimField
from healthcare.api.schema import example

ASHA = {"id": 1, "name": "Asha Nair", "email": "asha@example.org", "username": "asha"}


class PasswordField(TextField):
    """A password as it was typed, not trimmed; `accounts.passwords` prepares it for hashing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, write_only=True, style={"input_type": "password"}, **kwargs)


def check_password_rules(password: str, user: User, field: str) -> None:
    """Raises a 400 on the field with every rule of AUTH_PASSWORD_VALIDATORS that the password breaks."""
    try:
        validate_password(prepare_password(password), user)
    except DjangoValidationError as error:
        details = [
            serializers.ErrorDetail(text, rule.code or "invalid") for rule in error.error_list for text in rule.messages
        ]
        raise serializers.ValidationError({field: details}) from error


@extend_schema_serializer(examples=example(request={"name": "Asha Nair"}, response=ASHA))
class UserSerializer(ModelSerializer):
    """The caller's account. The username is read-only; one that is the e-mail changes with the e-mail."""

    current_password = PasswordField(required=False, help_text="Required to change the e-mail.")

    class Meta:
        model = User
        fields = ["id", "name", "email", "username", "current_password"]
        read_only_fields = ["username"]
        extra_kwargs = {"email": {"allow_null": False, "required": True}}

    def update(self, instance: User, validated_data: dict[str, Any]) -> User:
        validated_data = {name: value for name, value in validated_data.items() if name != "current_password"}
        if "email" in validated_data and instance.username == instance.email:
            validated_data["username"] = validated_data["email"]
        if validated_data and not User.objects.filter(pk=instance.pk).update(**validated_data):
            raise AuthenticationFailed("The account no longer exists; log in with another one.")
        for field, value in validated_data.items():
            setattr(instance, field, value)
        return instance


@extend_schema_serializer(
    examples=example(
        request={"name": "Asha Nair"},
        response=ASHA
        | {"acting_for": [{"id": 7, "username": "sunrise", "name": "Sunrise", "role": "write", "expires_at": None}]}
        | {"email_verified": True},
    )
)
class AccountSerializer(UserSerializer):
    """The caller's account, with the owners for whom the caller may act."""

    email_verified = serializers.BooleanField(source="has_verified_email", read_only=True)
    acting_for = serializers.SerializerMethodField()

    class Meta(UserSerializer.Meta):
        fields = [*UserSerializer.Meta.fields, "acting_for", "email_verified"]

    @extend_schema_field(ActingForSerializer(many=True))
    def get_acting_for(self, user: User) -> Any:
        return ActingForSerializer(delegations_to(user), many=True).data


@extend_schema_serializer(
    examples=example(
        request={"name": "Asha Nair", "email": "asha@example.org", "username": "asha", "password": "StrongPass123"},
        response=ASHA,
    ),
)
class RegistrationSerializer(ModelSerializer):
    """A new account; `username` defaults to the e-mail."""

    username = VerbatimField(required=False, max_length=254, validators=[USERNAME, NOT_RESERVED])
    password = PasswordField(max_length=256)
    password2 = PasswordField(required=False, help_text="May be sent, and must equal `password`.")
    confirm_password = PasswordField(required=False, help_text="May be sent, and must equal `password`.")
    invitation = TextField(
        required=False,
        write_only=True,
        error_messages={"required": "Send the invitation that a member of staff has given you; ask them for one."},
        help_text="The text of an invitation by staff, which is used up. Required where people are invited.",
    )

    class Meta:
        model = User
        fields = ["id", "name", "email", "username", "password", "password2", "confirm_password", "invitation"]
        extra_kwargs = {"email": {"allow_null": False, "required": True}}

    def get_fields(self) -> dict[str, serializers.Field]:
        fields = super().get_fields()
        fields["invitation"].required = settings.REGISTRATION == "invite"
        return fields

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        # Both are validated as ASCII, so there are no homoglyphs and nothing to normalize.
        values: dict[str, Any] = super().to_internal_value(data)
        for repeated in ("password2", "confirm_password"):
            if values.pop(repeated, values["password"]) != values["password"]:
                raise serializers.ValidationError({repeated: ["This differs from `password`."]})
        values.setdefault("username", values["email"])
        return values

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["username"].lower() == attrs["email"].lower():
            attrs["username"] = attrs["email"]
        elif "@" in attrs["username"]:
            message = "A username with an @ must be the user's own e-mail."
            raise serializers.ValidationError({"username": [message]})
        fields = {name: value for name, value in attrs.items() if name not in {"password", "invitation"}}
        check_password_rules(attrs["password"], User(**fields), "password")
        return attrs

    def create(self, validated_data: dict[str, Any]) -> User:
        """In a transaction, which a refused invitation or a taken username rolls back.

        The invitation comes first: without a usable one no password is hashed, and nothing tells whether a username is
        taken.
        """
        text = validated_data.pop("invitation", None)
        invitation = None if text is None else lock_invitation(text, validated_data["email"])
        user = User.objects.create_user(**validated_data)
        if invitation:
            use_invitation(invitation, user.pk)
        return user


@extend_schema_serializer(examples=example(request={"username": "asha", "password": "StrongPass123"}))
class LoginSerializer(serializers.Serializer):
    """`username` may be the e-mail, and the field may be called `email`."""

    username = TextField(required=False)
    email = TextField(required=False)
    password = PasswordField()
    otp = OptionalOtpField(
        help_text="Required if you have a second factor: the code that your authenticator app shows now, or a recovery "
        "code."
    )
    acting_for = TextField(
        required=False,
        allow_null=True,
        help_text="The owner, by username or id, for whom the requests of this session act.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "username" not in attrs and "email" not in attrs:
            raise serializers.ValidationError(
                {"username": serializers.ErrorDetail("This field is required.", "required")}
            )
        return attrs


@extend_schema_serializer(examples=example(request={"refresh": "eyJhbGciOiJIUzI1NiJ9…"}))
class RefreshSerializer(serializers.Serializer):
    refresh = TextField()


@extend_schema_serializer(
    examples=example(response={"access": "eyJhbGciOiJIUzI1NiJ9…", "refresh": "eyJhbGciOiJIUzI1NiJ9…"})
)
class TokenPairSerializer(serializers.Serializer):
    access = serializers.CharField(read_only=True)
    refresh = serializers.CharField(read_only=True)


@extend_schema_serializer(
    examples=example(request={"current_password": "StrongPass123", "new_password": "EvenStronger456"})
)
class PasswordChangeSerializer(serializers.Serializer):
    current_password = PasswordField()
    new_password = PasswordField(max_length=256)
    keep_tokens = TrueOrFalseField(default=False, help_text="Whether your personal access tokens go on working.")


@extend_schema_serializer(examples=example(request={"current_password": "StrongPass123"}))
class SessionEndSerializer(serializers.Serializer):
    current_password = PasswordField(required=False, help_text="Required to end another session than this one.")


class LoginSessionSerializer(ModelSerializer):
    current = serializers.SerializerMethodField(help_text="Whether it is the session of this very request.")

    class Meta:
        model = LoginSession
        fields = ["id", "current", "user_agent", "address", "created_at", "last_used_at", "expires_at", "kind"]
        read_only_fields = fields

    def get_current(self, session: LoginSession) -> bool:
        return bool(session == self.context["request"].auth)
