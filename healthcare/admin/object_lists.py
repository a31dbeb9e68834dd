"""Lists of objects in a record's row (`model_fields.ObjectListField`), edited as the rows of a table.

The markup is that of Django's tabular inlines, whose script adds and removes rows. Without script there are empty rows,
and a checkbox on each stored one removes it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.forms.formsets import DELETION_FIELD_NAME

from healthcare.characters import visible_text
from healthcare.phones import phone_number

EXTRA_ROWS, MOST_ROWS = 2, 1000
TextRow = dict[str, str]


@dataclass(frozen=True)
class TextMember:
    """A text that each object has, as a column of the table."""

    name: str
    label: str
    max_length: int
    is_phone: bool = False

    def normalize(self, text: str) -> str:
        return phone_number(text.strip()) if self.is_phone else visible_text(text.strip())


def objects_in_words(objects: Sequence[TextRow]) -> str:
    """One line for each object."""
    return "\n".join(", ".join(text for text in one.values() if text) for one in objects)


class ObjectRowsWidget(forms.Widget):
    """The table. Its value is the list of objects, or of the rows as they were sent, the empty and removed included."""

    template_name = "admin/widgets/object_rows.html"
    members: Sequence[TextMember] = ()
    maximum = 0
    singular = ""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        self.cell_errors: dict[tuple[int, str], list[str]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Each form has errors of its own."""
        copied = super().__deepcopy__(memo)
        copied.cell_errors = {}
        return copied

    @property
    def media(self) -> forms.Media:
        jquery = "admin/js/vendor/jquery/jquery.js" if settings.DEBUG else "admin/js/vendor/jquery/jquery.min.js"
        return forms.Media(js=[jquery, "admin/js/jquery.init.js", "admin/js/inlines.js"])

    def id_for_label(self, id_: str) -> str:
        return ""  # each cell has a label of its own

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return f"{name}-TOTAL_FORMS" not in data

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[TextRow]:
        total = data.get(f"{name}-TOTAL_FORMS", "")
        count = min(int(total), MOST_ROWS) if total.isascii() and total.isdigit() and len(total) < 9 else 0
        names = [*(member.name for member in self.members), DELETION_FIELD_NAME]
        return [{one: data.get(f"{name}-{number}-{one}", "") for one in names} for number in range(count)]

    def as_sent(self, name: str, objects: Sequence[TextRow] | None) -> TextRow:
        """The inputs of a table with these objects, as a browser sends them."""
        cells = {
            f"{name}-{number}-{key}": text for number, one in enumerate(objects or []) for key, text in one.items()
        }
        return {f"{name}-TOTAL_FORMS": str(len(objects or [])), **cells}

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, None, attrs)
        stored = list(value or [])
        rows = [self.row(name, str(number), row) for number, row in enumerate(stored)]
        sent = any(DELETION_FIELD_NAME in row for row in stored)
        free = 0 if sent else max(min(EXTRA_ROWS, self.maximum - len(stored)), 0)
        rows += [self.row(name, str(len(stored) + number), None) for number in range(free)]
        options = {"prefix": name, "addText": f"Add another {self.singular}", "deleteText": "Remove"}
        return context | {
            "members": self.members,
            "rows": rows,
            "template_row": self.row(name, "__prefix__", None),
            "total": len(rows),
            "initial": len(stored),
            "maximum": self.maximum,
            "formset": json.dumps({"name": f"#{name}", "options": options}),
        }

    def row(self, name: str, number: str, values: Mapping[str, str] | None) -> dict[str, Any]:
        found = values or {}
        cells = [
            {
                "name": f"{name}-{number}-{member.name}",
                "member": member,
                "value": found.get(member.name, ""),
                "errors": self.cell_errors.get((int(number), member.name), []) if number.isdigit() else [],
            }
            for member in self.members
        ]
        is_empty = not any(found.get(member.name) for member in self.members)
        return {
            "number": number,
            "cells": cells,
            "stored": not is_empty,
            "remove": f"{name}-{number}-{DELETION_FIELD_NAME}",
            "removed": bool(found.get(DELETION_FIELD_NAME)),
        }


class HiddenList(forms.HiddenInput):
    """The list as JSON, for hidden initial data."""

    def format_value(self, value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value or [])


class ObjectListFormField(forms.Field):
    """The list without its empty and removed rows, each text as the API stores it. The form validates the objects, as
    the API does."""

    widget = ObjectRowsWidget
    hidden_widget = HiddenList

    def __init__(self, *, members: Sequence[TextMember], maximum: int, singular: str, **kwargs: Any) -> None:
        super().__init__(**{"required": False, **kwargs})
        self.members = members
        self.rows.members, self.rows.maximum, self.rows.singular = members, maximum, singular

    @property
    def rows(self) -> ObjectRowsWidget:
        return cast("ObjectRowsWidget", self.widget)

    def to_python(self, value: Any) -> list[TextRow]:
        if isinstance(value, str):
            value = read_json(value)
        return [self.object_of(row) for _, row in self.filled_rows(value or [])]

    def filled_rows(self, rows: Sequence[TextRow]) -> Iterator[tuple[int, TextRow]]:
        """The rows that hold an object, with their numbers."""
        for number, row in enumerate(rows):
            if not row.get(DELETION_FIELD_NAME) and any(row.get(member.name, "").strip() for member in self.members):
                yield number, row

    def object_of(self, row: TextRow) -> TextRow:
        return {member.name: member.normalize(row.get(member.name, "")) for member in self.members}

    def show_errors(self, sent: Any, errors: Sequence[Mapping[str, str]]) -> list[str]:
        """Put the API's errors, which point to a member of an object, beside the cells. Returns one line for each."""
        numbers = [number for number, _ in self.filled_rows(sent)]
        labels = {member.name: member.label for member in self.members}
        lines = []
        for error in errors:
            _, index, member = [*error["pointer"].split("/"), "", "", ""][:3]
            if not index.isdigit():
                lines.append(error["detail"])
                continue
            row = numbers[int(index)]
            column = member if member in labels else self.members[-1].name
            self.rows.cell_errors.setdefault((row, column), []).append(error["detail"])
            lines.append(f"Row {row + 1}, {labels[column]}: {error['detail']}")
        return lines


def read_json(text: str) -> list[TextRow]:
    """Raises ValidationError unless the text is a list of objects whose members are texts."""
    try:
        rows = json.loads(text or "[]")
    except (ValueError, RecursionError):
        rows = None
    well_formed = isinstance(rows, list) and all(
        isinstance(row, dict) and all(isinstance(value, str) for value in row.values()) for row in rows
    )
    if not well_formed:
        raise ValidationError("Reload the form.", "invalid")
    return rows  # type: ignore[no-any-return]
