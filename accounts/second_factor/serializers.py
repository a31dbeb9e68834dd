"""Serializers of /api/auth/otp/."""

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from accounts.second_factor.fields import OptionalOtpField, OtpField
from accounts.serializers import PasswordField
from healthcare.api.schema import example

EXAMPLE = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@extend_schema_serializer(examples=example(request={"current_password": "StrongPass123"}))
class FactorBeginSerializer(serializers.Serializer):
    current_password = PasswordField()


@extend_schema_serializer(
    examples=example(
        response={
            "secret": EXAMPLE,
            "otpauth_uri": f"otpauth://totp/Healthcare:asha?secret={EXAMPLE}&issuer=Healthcare&algorithm=SHA1&digits=6"
            "&period=30",
        }
    )
)
class NewFactorSerializer(serializers.Serializer):
    """What an authenticator app needs; neither is shown again."""

    secret = serializers.CharField(read_only=True, help_text="In base32, to type into the app.")
    otpauth_uri = serializers.CharField(read_only=True, help_text="To show as a QR code.")


@extend_schema_serializer(examples=example(request={"otp": "287082"}))
class FactorConfirmSerializer(serializers.Serializer):
    otp = OtpField(help_text="The code that your authenticator app shows now.")


# Not "RecoveryCodes": a generated client would name its class, module and property alike, which mypy --strict refuses.
@extend_schema_serializer(examples=example(response={"recovery_codes": ["MZXW-6YTB-OI3D-Q5LT", "GEZD-GNBV-GY3T-QOJQ"]}))
class NewRecoveryCodesSerializer(serializers.Serializer):
    """Ten codes, each of which works once instead of one of the app. They are not shown again."""

    recovery_codes = serializers.ListField(child=serializers.CharField(), read_only=True)


@extend_schema_serializer(examples=example(request={"current_password": "StrongPass123", "otp": "287082"}))
class FactorRemoveSerializer(serializers.Serializer):
    current_password = PasswordField()
    otp = OptionalOtpField(help_text="A code of the app, or a recovery code; required if the factor is confirmed.")
