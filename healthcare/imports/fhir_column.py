"""The column `fhir` of a file: what FHIR clients sent and no other column holds, as exports write it."""

from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from healthcare.api.fields import TextField
from healthcare.imports.rows import Row

COLUMN = "fhir"
# By model, what gives the text to store for the text of a file and the server that the file comes from, None for this
# one; it raises Django's ValidationError. The app that writes the column adds them.
READERS: dict[type[Model], Callable[[str, str | None], str]] = {}


class FhirField(TextField):
    """The text as `read_fhir_column` has left it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "allow_blank": True, "trim_whitespace": False} | kwargs)


def read_fhir_column(rows: Sequence[Row], model: type[Model], own_server: str) -> None:
    """Replace the text of each row that has one by the text to store, or refuse the row."""
    for row in rows:
        text = row.values.get(COLUMN)
        if not text or not isinstance(text, str):
            continue
        try:
            row.values[COLUMN] = READERS[model](text, None if row.server == own_server else row.server)
        except ValidationError as error:
            row.refuse(COLUMN, "invalid", str(error.message))
