"""Declares what of a model can be searched: `searchable(model, …)` beside the model."""

import sys
from dataclasses import dataclass

from django.db import models
from django.db.models import Model

INDEXES: list["Index"] = []


@dataclass(frozen=True)
class Index:
    """The tables of a searchable model, and its columns. `owner` is empty where everybody finds every record.
    `successor` refers to the record that replaces this one, which is then found by the terms of both."""

    table: str
    terms: str
    words: str
    known_words: str = ""  # of all owners, where records have owners
    owner: str = ""
    successor: str = ""
    name: str = ""
    identifier: str = ""
    identifiers: str = ""
    phone: str = ""
    alternate_phone: str = ""
    email: str = ""


class Term(models.Model):
    """A term that a record is found by. `hidden` says that the record is deleted."""

    pk = models.CompositePrimaryKey("owner", "hidden", "term", "record")
    owner = models.BigIntegerField()
    hidden = models.BooleanField()
    term = models.TextField(db_collation="C")
    record = models.BigIntegerField()

    class Meta:
        abstract = True


class Word(models.Model):
    """A word of an owner's vocabulary. Two transactions at once may both add it, which does no harm; a unique
    constraint would have the second wait for the first, and could deadlock."""

    owner = models.BigIntegerField()
    word = models.TextField(db_collation="C")

    class Meta:
        abstract = True


class KnownWord(models.Model):
    """A word of any owner's vocabulary."""

    word = models.TextField(db_collation="C")

    class Meta:
        abstract = True


def searchable(model: type[Model], **columns: str) -> Index:
    """Make the models `<Model>Term` and `<Model>Word` (and `<Model>KnownWord` of records with owners), the triggers
    that fill them, and the functions that look words up.

    `columns` name the model's fields that serve as the columns of `Index`; `identifiers` is a list of objects with a
    member `value` (`model_fields.ObjectListField`). `makemigrations` writes all of it; the row-level security of the
    two models is yours to add.
    """
    from healthcare.search import staff_vocabulary, triggers, vocabulary  # noqa: PLC0415  (they import `Index`)

    name = model.__name__.lower()
    terms = make_model(model, "Term", Term, models.Index(fields=["record"], name=f"{name}_found_by"))
    vocabulary_indexes = [models.Index(fields=["owner", "word"], name=f"{name}_vocabulary")]
    if owned := "owner" in columns:  # staff search the records of all owners
        vocabulary_indexes.append(models.Index(fields=["word", "owner"], name=f"{name}_owners_of_word"))
    words = make_model(model, "Word", Word, *vocabulary_indexes)
    column_names = {field.name: str(field.column) for field in model._meta.concrete_fields}
    indexed = {kind: column_names[field] for kind, field in columns.items()}
    if owned:
        known_words = make_model(
            model, "KnownWord", KnownWord, models.Index(fields=["word"], name=f"{name}_known_word")
        )
        indexed["known_words"] = known_words._meta.db_table
    index = Index(model._meta.db_table, terms._meta.db_table, words._meta.db_table, **indexed)
    for trigger in (triggers.SearchInsertTrigger, triggers.SearchUpdateTrigger, triggers.SearchDeleteTrigger):
        trigger(index).register(model)  # type: ignore[arg-type]
    vocabulary.declare_vocabulary(model._meta.app_label, index)
    if owned:
        for keeper in (staff_vocabulary.KnownWordInsertTrigger, staff_vocabulary.KnownWordDeleteTrigger):
            keeper(index).register(words)  # type: ignore[arg-type]
        staff_vocabulary.declare_vocabulary_of_staff(model._meta.app_label, index)
    INDEXES.append(index)
    return index


def make_model(model: type[Model], kind: str, base: type[Model], *indexes: models.Index) -> type[Model]:
    meta = type("Meta", (), {"indexes": [*indexes], "app_label": model._meta.app_label})
    attributes = {"__module__": model.__module__, "Meta": meta}
    made: type[Model] = type(f"{model.__name__}{kind}", (base,), attributes)
    setattr(sys.modules[model.__module__], made.__name__, made)  # `manage.py shell` imports every model by its name
    return made
