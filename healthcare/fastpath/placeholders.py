"""Placeholders for the values of a request in the parameters of a compiled statement."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Field, expressions


class Placeholder:
    """Stands for a value that each request provides. Compared by identity; the name is for debugging."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


CALLER = Placeholder("caller")  # the caller's id as a number; None for an anonymous caller
OWNER = Placeholder("owner")  # the id of the owner of the records: the caller's, unless a delegate acts for another
BASIS = Placeholder("basis")  # on which the caller may read: that of AccessRecording
PRINCIPAL = Placeholder("principal")  # caller and owner, as `statements.PRINCIPAL_SQL` gives them
KEY = Placeholder("key")  # the id in the path
TODAY = Placeholder("today")
REQUEST_ID = Placeholder("request id")
PARENT = Placeholder("parent")  # the key of the row that contains a nested one
ENTITY_TAGS = Placeholder("entity tags")
IDEMPOTENCY_DIGEST = Placeholder("idempotency digest")
LOCATION_BASE = Placeholder("location base")  # what precedes the id in the path of a new record
IDEMPOTENCY_FINGERPRINT = Placeholder("idempotency fingerprint")


class Parameter(expressions.Expression):
    """A placeholder as an ORM expression: `filter(pk__lt=Parameter(KEY, field))`."""

    def __init__(self, placeholder: Placeholder, output_field: Field | None = None) -> None:
        super().__init__(output_field=output_field)
        self.placeholder = placeholder

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return "%s", [self.placeholder]


def fill(parameters: Sequence[Any], values: Mapping[Placeholder, Any]) -> list[Any]:
    """The parameters, each placeholder replaced by its value."""
    return [values[one] if isinstance(one, Placeholder) else one for one in parameters]
