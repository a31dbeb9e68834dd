"""Compares a field that a form and somebody else changed: a three-way comparison, as in a merge of files.

`base` is the value that the form showed, which it carries as hidden initial data; `now` is that of the locked row;
`mine` is what was sent. Values are compared as the model would store them, so line endings, spaces around a text and
the notation of a phone make no difference.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.boundfield import BoundField

from healthcare.admin.value_texts import YES_NO, text_of

CLASHING = "clashing"  # the hidden inputs that name the fields whose clash the page shows
CHOICE = "clash-"  # in front of a field's name: the radio buttons
THEIRS, MINE = "theirs", "mine"


class Unreadable:
    """A text that the field refuses, or hidden initial data that is not there. It equals nothing."""


class FieldOutcome(Enum):
    KEPT = "the row's value stays"
    CHANGED = "the sent value is saved"
    CLASH = "the user has to choose"


@dataclass(frozen=True)
class Comparison:
    """The values are as the model stores them; those of a many-to-many field are sets of keys as texts."""

    outcome: FieldOutcome
    base: Any
    now: Any
    mine: Any


@dataclass(frozen=True)
class Clash:
    """A row of the table on the form, in words."""

    name: str
    label: str
    base: str
    now: str
    mine: str
    changed_by: str


def compare_field(bound: BoundField, model_field: Any, now: Any, *, has_base: bool = True) -> Comparison:
    """Compare one field of a bound form with the row, of which `now` is the value. Without a base, `now` is it."""
    field = bound.field
    mine, stored = (read_value(field, model_field, value) for value in (bound.data, now))
    base, is_untouched = read_base(bound, model_field) if has_base else (stored, False)
    if isinstance(base, Unreadable) and was_shown(bound, now):
        base = stored  # such as a time that the change of the clock repeats
    if model_field.many_to_many:  # each key is added or removed by itself
        merged = (stored | (mine - base)) - (base - mine)
        return Comparison(FieldOutcome.KEPT if merged == stored else FieldOutcome.CHANGED, base, stored, merged)
    choice = bound.form.data.get(f"{CHOICE}{bound.name}")
    if is_untouched or mine in (base, stored):
        outcome = FieldOutcome.KEPT
    elif base != stored or (is_asked(bound) and choice not in {THEIRS, MINE}):
        outcome = FieldOutcome.CLASH
    else:
        outcome = FieldOutcome.KEPT if choice == THEIRS else FieldOutcome.CHANGED
    return Comparison(outcome, base, stored, mine)


def read_base(bound: BoundField, model_field: Any) -> tuple[Any, bool]:
    """The value in the hidden initial data, and whether the text that was sent is that very one."""
    hidden: Any = bound.field.hidden_widget()
    raw = hidden.value_from_datadict(bound.form.data, {}, bound.html_initial_name)
    if model_field.many_to_many or not hidden.value_omitted_from_data(bound.form.data, {}, bound.html_initial_name):
        return read_value(bound.field, model_field, raw), bound.data == raw
    return Unreadable(), is_omitted(bound)


def was_shown(bound: BoundField, now: Any) -> bool:
    """Whether the hidden initial data is what a form of the row as it is now carries."""
    hidden: Any = bound.field.hidden_widget()
    raw = hidden.value_from_datadict(bound.form.data, {}, bound.html_initial_name)
    value = bound.field.prepare_value(now)
    if isinstance(hidden, forms.MultiWidget):
        parts: list[Any] = hidden.decompress(value) or []
        return bool(raw == [widget.format_value(part) for widget, part in zip(hidden.widgets, parts, strict=True)])
    return bool(raw == hidden.format_value(value))


def is_asked(bound: BoundField) -> bool:
    """Whether the page showed the clash of this field, so that the user had to choose."""
    data: Any = bound.form.data
    return CLASHING in data and bound.name in data.getlist(CLASHING)


def is_omitted(bound: BoundField) -> bool:
    """Whether the request says nothing about the field. An unticked checkbox is sent as nothing, too."""
    widget: Any = bound.field.widget
    if isinstance(widget, forms.CheckboxInput):
        return bound.html_name not in bound.form.data
    return bool(widget.value_omitted_from_data(bound.form.data, {}, bound.html_name))


def read_value(field: forms.Field, model_field: Any, value: Any) -> Any:
    """The value that the model would store for one of a widget, or for one that is stored."""
    if model_field.many_to_many:
        return frozenset(str(getattr(one, "pk", one)) for one in value or ())
    if isinstance(field, forms.ModelChoiceField):
        return "" if value in field.empty_values else str(getattr(value, "pk", value))
    try:
        if isinstance(field, forms.MultiValueField) and isinstance(value, list | tuple):
            return model_field.to_python(field.clean(value))
        return model_field.to_python(field.to_python(value))
    except (ValidationError, ValueError, TypeError):
        return Unreadable()


def value_in_words(field: forms.Field, value: Any) -> str:
    """A value of a comparison as staff read it; the empty text for none."""
    if isinstance(value, bool) or (value is None and isinstance(field, forms.NullBooleanField)):
        return YES_NO[value]
    if value is None or isinstance(value, Unreadable):
        return ""
    if isinstance(field, forms.ChoiceField) and not isinstance(field, forms.ModelChoiceField):
        return str(dict(field.choices).get(value, value))  # type: ignore[arg-type]
    return text_of(value)
