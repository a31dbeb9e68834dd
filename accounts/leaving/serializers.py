"""Serializers of the end of an account."""

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.second_factor.fields import OptionalOtpField
from accounts.serializers import PasswordField
from healthcare.api.schema import example


@extend_schema_serializer(examples=example(request={"current_password": "StrongPass123"}))
class LeavingSerializer(serializers.Serializer):
    current_password = PasswordField()
    otp = OptionalOtpField()
