"""Rows without a database, as a write by the API or by FHIR would leave them."""

import datetime
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from healthcare.model_fields import is_visible_line

AT = datetime.datetime(2026, 11, 22, 9, 30, 0, 120_000, datetime.UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LINES = TEXTS.filter(lambda text: is_visible_line(text.strip()))
SEVERAL = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def row_of(serializer_class: Any, values: dict[str, Any]) -> Any:
    """The row that these values for the API's serializer give; None where they are refused."""
    serializer = serializer_class(data=values)
    if not serializer.is_valid():
        return None
    row = serializer_class.Meta.model(id=7, version=3, updated_at=AT, **serializer.validated_data)
    row.complete()
    return row


def accepted_row(serializer_class: Any, body: dict[str, Any]) -> Any:
    """The row of those fields of a body that the API accepts, and of a name."""
    serializer = serializer_class(data=body)
    if serializer.is_valid():
        return row_of(serializer_class, body)
    accepted = {name: value for name, value in body.items() if name not in serializer.errors}
    return row_of(serializer_class, {"name": "Asha"} | accepted)


def columns_of(row: Any) -> dict[str, Any]:
    """The values of a row, without what is kept of FHIR."""
    return {field.name: getattr(row, field.attname) for field in row._meta.concrete_fields if field.name != "fhir"}
