"""What history and access log hold, in words for staff: users, values of fields, and kinds of access."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import BooleanField, Field
from django.template.defaultfilters import pluralize
from django.utils.text import capfirst

from audit.history import event_models
from audit.models import AccessLog, Forgotten, UserEvent
from healthcare.admin.value_texts import YES_NO, text_of

EMPTY = "(empty)"
# Of a request's action, `<model>.<action>` or `admin.<model>.<action>`: what the patient's data was used for.
API_WORDS = {
    "list": "listed", "search": "found by a search", "retrieve": "read", "create": "read after adding",
    "destroy": "deleted",
    "update": "read after a change", "partial_update": "read after a change", "restore": "read after restoring",
    "merge": "read after a merge", "unmerge": "read after undoing a merge", "history": "history read",
    "vread": "earlier version read", "access_log": "access log read",
    "everything": "read with all that belongs to it", "match": "found as a match", "bundle": "asked for in a Bundle",
    "duplicates": "likely duplicates read", "audience": "list of who sees it read",
    "transfer": "offered to another owner", "accept": "accepted",
    "file": "written into a file for the person",
    "import": "added, changed or matched by an import",
    "export": "exported",
    "undo": "deleted or left by undoing it",
}  # fmt: skip
ADMIN_WORDS = {
    "changelist": "listed", "change": "opened", "view": "opened", "choose": "shown as chosen in a form",
    "suggest": "suggested while typing", "add": "shown after adding", "history": "history read",
    "restore_version": "version compared", "delete": "shown before deleting",
    "delete_selected_preview": "shown before deleting", "restore_preview": "shown before restoring",
    "end_preview": "shown before ending an assignment", "merge_preview": "compared before a merge",
    "unmerge_preview": "shown before undoing a merge", "duplicates": "likely duplicates read", "export": "exported",
    "hand_over_preview": "shown before handing over",
}  # fmt: skip


@cache
def model_names() -> dict[str, str]:
    return {model._meta.model_name or "": str(model._meta.verbose_name) for model in apps.get_models()}


@cache
def nested_list_words() -> dict[str, str]:
    """Words for lists below another record, whose action is the plural of a model, as in /patients/<id>/doctors/."""
    models = apps.get_models()
    return {str(model._meta.verbose_name_plural): f"read with the {model._meta.verbose_name}" for model in models}


@cache
def table_texts() -> dict[str, str]:
    """The tables that seals cover, in words: "History of patients"."""
    histories = {
        events._meta.db_table: f"History of {model._meta.verbose_name_plural}"
        for model, events in event_models().items()
    }
    return histories | {
        model._meta.db_table: str(capfirst(model._meta.verbose_name_plural)) for model in (AccessLog, Forgotten)
    }


class Users:
    """The names of users by id, those of deleted ones included, read in two statements at most."""

    def __init__(self, ids: Iterable[int | None]) -> None:
        wanted = {key for key in ids if key}
        self.names = dict(get_user_model()._default_manager.filter(pk__in=wanted).values_list("pk", "username"))
        missing = wanted - self.names.keys()
        former = UserEvent.objects.filter(id__in=missing).order_by("id", "-pgh_id").distinct("id") if missing else []
        self.former_names = {event.id: event.username for event in former}

    def name(self, key: int | None) -> str:
        if not key:
            return "nobody logged in"
        if key in self.names:
            return self.names[key]
        return f"{self.former_names[key]} (deleted user {key})" if key in self.former_names else f"erased user {key}"


def actor_of(context: dict[str, Any], users: Users) -> str:
    """Who made a change, from the context of its event: a user, or for a command its program and database login."""
    if "login" in context:
        return f"the program {context.get('application') or 'without a name'} (database login {context['login']})"
    return users.name(context.get("actor"))


def value_text(field: Field, value: Any, users: Users) -> str:
    """A stored value as staff know it. A foreign key is shown by the id alone: no other record is read for it."""
    if isinstance(field, BooleanField) and (value is not None or field.null):
        return YES_NO[value]
    if value is None or value in ("", []):
        return EMPTY
    if field.is_relation:
        model: Any = field.related_model
        return users.name(value) if model is get_user_model() else f"{model._meta.verbose_name} {value}"
    if field.flatchoices:
        text = str(dict(field.flatchoices).get(value, value))
        # A stored word is a name that staff know, such as a role's; a code, such as a gender's, is not.
        return text if len(str(value)) == 1 or str(value) == text.lower() else f"{value}: {text}"
    return text_of(value)


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """Both texts. Lines that both begin or end with are replaced by their number."""
    old, new = before.split("\n"), after.split("\n")
    shorter = min(len(old), len(new))
    start = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    end = next((at for at in range(shorter - start) if old[-1 - at] != new[-1 - at]), shorter - start)
    if start + end < 3:
        return before, after

    def shortened(lines: list[str]) -> Iterator[str]:
        if start:
            yield f"… {start} unchanged line{pluralize(start)}"
        yield from lines[start : len(lines) - end]
        if end:
            yield f"… {end} unchanged line{pluralize(end)}"

    return "\n".join(shortened(old)), "\n".join(shortened(new))


def access_text(recorded: str) -> str:
    """What a request did with the data, from its action: "listed in the admin" for `admin.patient.changelist`."""
    *channel, model, action = recorded.split(".") if "." in recorded else ["", recorded]
    in_admin = channel == ["admin"]
    words = ADMIN_WORDS if in_admin else API_WORDS | nested_list_words()
    done = words.get(action, f"read ({action.replace('_', ' ')})")
    about = "" if model in {"patient", ""} else f"{model_names().get(model, model)} "
    return f"{about}{done} {'in the admin' if in_admin else 'through the API'}"


def is_refusal(status: int) -> bool:
    return status >= 400 and status != 409  # a 409 shows likely duplicates


def outcome_text(status: int) -> str:
    return f"refused ({status})" if is_refusal(status) else "shown"


def tells_more_than_events(message: str, tracked: set[str]) -> bool:
    """Whether an entry of the admin's log says what no event does: a text, or a change of other fields than these."""
    try:
        parts = json.loads(message)
    except ValueError:
        return bool(message)
    own = [part["changed"].get("fields", []) for part in parts if "changed" in part and "name" not in part["changed"]]
    return any(name.lower() not in tracked for names in own for name in names)
