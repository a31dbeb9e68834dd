"""Bodies of the calls about links in e-mails."""

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.models import User
from accounts.serializers import PasswordField
from healthcare.api.fields import ModelSerializer, TextField
from healthcare.api.schema import example

LINK = {"uid": "MQ", "token": "d2x4nk-0f8fad5bd9cb469fa16570867728950e"}


class EmailSerializer(ModelSerializer):
    class Meta:
        model = User
        fields = ["email"]
        extra_kwargs = {"email": {"allow_null": False, "required": True}}


@extend_schema_serializer(examples=example(request={"email": "asha@example.org"}))
class LinkRequestSerializer(EmailSerializer):
    """Where to send an e-mail with a link."""


@extend_schema_serializer(
    examples=example(request={"email": "nair@example.org", "current_password": "StrongPass123"}),
)
class EmailChangeSerializer(EmailSerializer):
    """The new e-mail of the caller."""

    current_password = PasswordField()

    class Meta(EmailSerializer.Meta):
        fields = [*EmailSerializer.Meta.fields, "current_password"]


@extend_schema_serializer(examples=example(request=LINK))
class LinkSerializer(serializers.Serializer):
    """What a link in an e-mail holds."""

    uid = TextField()
    token = TextField()


@extend_schema_serializer(examples=example(request=LINK | {"new_password": "EvenStronger456"}))
class PasswordResetSerializer(LinkSerializer):
    """What a link in an e-mail holds, and the new password."""

    new_password = PasswordField(max_length=256)
