"""What of a model can be searched, declared beside it in one statement; and the SQL that keeps its terms."""

from dataclasses import dataclass

from django.db import models
from django.db.models import Model

INDEXES: list["Index"] = []


@dataclass(frozen=True)
class Index:
    """The tables of a searchable model, and its columns. `owner` is empty where everybody finds every record;
    `successor` names the record that has taken the place of one, and is found by what that one said as well."""

    table: str
    terms: str
    words: str
    owner: str = ""
    successor: str = ""
    name: str = ""
    identifier: str = ""
    phone: str = ""
    email: str = ""


class Term(models.Model):
    """What a record is found by, kept by a trigger: see the room's own words on it."""

    pk = models.CompositePrimaryKey("owner", "hidden", "term", "record")
    owner = models.BigIntegerField()
    hidden = models.BooleanField()
    term = models.TextField(db_collation="C")
    record = models.BigIntegerField()

    class Meta:
        abstract = True


class Word(models.Model):
    """A word of an owner's vocabulary. One that stands twice, as two transactions at once may add it, does no harm:
    a unique constraint would have the second wait for the first, and would be one more way to a deadlock."""

    owner = models.BigIntegerField()
    word = models.TextField(db_collation="C")

    class Meta:
        abstract = True


def searchable(model: type[Model], **columns: str) -> Index:
    """Makes `<Model>Term` and `<Model>Word`. `columns` name the model's fields that are what `Index` describes: its
    `owner`, `successor`, `name`, `identifier`, `phone` and `email`.

    The migration that creates the two tables keeps and fills them with the operation `KeepTerms`.
    """
    name = model.__name__.lower()
    terms = make(model, "Term", Term, models.Index(fields=["record"], name=f"{name}_found_by"))
    words = make(model, "Word", Word, models.Index(fields=["owner", "word"], name=f"{name}_vocabulary"))
    named = {field.name: str(field.column) for field in model._meta.concrete_fields}
    kept = {kind: named[field] for kind, field in columns.items()}
    index = Index(model._meta.db_table, terms._meta.db_table, words._meta.db_table, **kept)
    INDEXES.append(index)
    return index


def make(model: type[Model], kind: str, base: type[Model], index: models.Index) -> type[Model]:
    meta = type("Meta", (), {"indexes": [index], "app_label": model._meta.app_label})
    made: type[Model] = type(f"{model.__name__}{kind}", (base,), {"__module__": model.__module__, "Meta": meta})
    return made
