"""The serializer field for a code of a second factor."""

from typing import Any

from healthcare.api.fields import TextField


class OtpField(TextField):
    """A code of an authenticator app, or a recovery code. The module `codes` checks its form."""

    default_error_messages = {"invalid": "Send the code as text, in quotes: a number loses its leading zeros."}

    def __init__(self, **kwargs: Any) -> None:
        help_text = "The code that your authenticator app shows now, or a recovery code."
        super().__init__(write_only=True, max_length=100, **({"help_text": help_text} | kwargs))


class OptionalOtpField(OtpField):
    """For requests of users who may have no second factor: it may be left out, null or empty."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, allow_null=True, allow_blank=True, **kwargs)
