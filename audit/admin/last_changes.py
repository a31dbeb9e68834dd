"""Who changed a field of a record last, for a form that collides with that change."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from audit.admin.wording import Users, actor_of
from audit.history import event_model_of
from healthcare.admin.value_texts import local_time

EVENTS_READ = 50  # the latest; a change that a form collides with is rarely older


def last_changes(record: Any, fields: Iterable[str]) -> dict[str, str]:
    """By field, "by bob, 26 Nov 2026, 14:05:09 IST" for its last change among the latest events."""
    model = event_model_of(type(record))
    if model is None:
        return {}
    events = list(model.objects.filter(id=record.pk).order_by("-pgh_id")[: EVENTS_READ + 1])
    found = {}
    for name in fields:
        column = next((field.attname for field in model._meta.fields if field.name == name), None)
        changes = (later for later, earlier in pairwise(events) if differ(later, earlier, column))
        if column and (change := next(changes, None)):
            found[name] = change
    users = Users(event.pgh_context.get("actor") for event in found.values())
    return {
        name: f"by {actor_of(event.pgh_context, users)}, {local_time(event.pgh_created_at)}"
        for name, event in found.items()
    }


def differ(later: Any, earlier: Any, column: str | None) -> bool:
    return column is not None and getattr(later, column) != getattr(earlier, column)
