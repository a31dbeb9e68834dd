"""Rows that Python represents, where the answer is no JSON that SQL could write."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from django.db import connection
from django.db.models import Model


class ModelRows:
    """The columns of a model and values of other rows, and the rows that the statement gives as objects with these
    attributes. They are no instances of the model: nothing can be read or written by them."""

    def __init__(self, model: type[Model], related: Sequence[str]) -> None:
        self.model = model
        fields = model._meta.concrete_fields
        self.columns = [field.attname for field in fields]
        self.names = [*self.columns, *related]
        self.converters = [
            (field.attname, convert) for field in fields for convert in field.get_db_converters(connection)
        ]

    def blank(self, **values: Any) -> Any:
        """The row of a new instance with these values, without related ones: a sample of the attributes."""
        new = self.model(**values)
        return SimpleNamespace(**{name: getattr(new, name, None) for name in self.names})

    def row(self, values: Sequence[Any]) -> Any:
        """The row with these values, in the order of `names`."""
        row = dict(zip(self.names, values, strict=True))
        for name, convert in self.converters:
            row[name] = convert(row[name], None, connection)
        return SimpleNamespace(**row)
