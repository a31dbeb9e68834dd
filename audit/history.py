"""History by trigger: every INSERT, UPDATE and DELETE of a tracked table writes one event for each row it changes."""

import datetime
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, ClassVar, Self

import pghistory
import pgtrigger
from django.apps import apps
from django.db import connection, models
from django.db.models import Exists, F, Model, OuterRef, Q, Value
from django.db.models.expressions import Combinable
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce
from django.db.models.lookups import Exact
from pghistory.core import create_event_model
from pghistory.models import Event as LibraryEvent
from pghistory.trigger import Event as EventTrigger

from audit.actor_names import ActorName
from healthcare.ownership import OwnedQuerySet, Owner
from healthcare.triggers import DatabaseTrigger

# The actor and request id that the API or the admin has set; for a command or psql, the login and the program.
CONTEXT = """COALESCE(NULLIF(current_setting('pghistory.context_metadata', true), '')::jsonb,
    jsonb_build_object('login', session_user, 'application', current_setting('application_name')))"""


class Recorder(DatabaseTrigger, EventTrigger):
    """Writes an event with its owner's rights: callers may not write history."""

    security_definer = True
    event_model: Any

    def get_func(self, model: Any) -> str:
        """Copy the row. The time is that of the clock, not of the transaction's start, so that it follows the order of
        the events."""
        columns = [field.column for field in self.event_model._meta.fields if not field.name.startswith("pgh_")]
        names = ", ".join(f'"{column}"' for column in columns)
        of_statement = self.level == pgtrigger.Statement
        row, source = ("new_values", " FROM new_values") if of_statement else (self.row, "")
        values = ", ".join(f'{row}."{column}"' for column in columns)
        return f"""
    INSERT INTO "{self.event_model._meta.db_table}"
        ({names}, pgh_created_at, pgh_label, pgh_context)
    SELECT {values}, clock_timestamp(), '{self.label}',
        {CONTEXT}{source};
    RETURN NULL;
"""  # noqa: S608  (names of our own models)


class UpdateRecorder(Recorder):
    skips_backfill = True


class Recorded(pghistory.RowEvent):
    """A kind of event that `Recorder` writes."""

    trigger_level: pgtrigger.Level = pgtrigger.Row
    recorder: type[Recorder] = Recorder

    def add_event_trigger(self, event_model: Any) -> None:
        pgtrigger.register(
            self.recorder(
                event_model=event_model,
                label=self.label,
                name=self.trigger_name,
                row=self.row,
                operation=self.operation,
                condition=self.condition,
                level=self.trigger_level,
            )
        )(event_model.pgh_tracked_model)


class Inserted(Recorded, pghistory.InsertEvent):
    """Records all rows of a statement in one INSERT, in order, which makes bulk inserts cheaper."""

    trigger_level = pgtrigger.Statement


class Updated(Recorded, pghistory.UpdateEvent):
    recorder = UpdateRecorder


class Deleted(Recorded, pghistory.DeleteEvent):
    pass


def history_kept_since() -> datetime.datetime | None:
    """The time from which on the history is complete; None if none of it has been archived."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT history_kept_since()")
        since: datetime.datetime | None = cursor.fetchone()[0]
    return since


def changed_until(at: datetime.datetime) -> Q:
    """Of events: those of changes until this time, by the time of the event or the one that the state carries."""
    return (
        Q(pgh_created_at__lte=at)
        | Q(pgh_label=Inserted.label, created_at__lte=at)
        | Q(pgh_label=Updated.label, updated_at__lte=at)
    )


class EventQuerySet(OwnedQuerySet):
    def with_actor_names(self) -> Self:
        """With the name of the user who made each change as `actor_name`: None for a command and for a user who does
        not exist any more."""
        return self.annotate(actor_name=ActorName(Cast(KT("pgh_context__actor"), models.BigIntegerField())))

    def as_of(self, at: datetime.datetime, *, ended: bool = False) -> Self:
        """The records that existed at that time, as they were: the last event of each until then, unless it was deleted
        or, but for `ended`, ended. Later corrections do not show.

        A state begins at the time that it carries, so that the `updated_at` of an answer finds that answer again; the
        event of it is written a moment later.
        """
        model: Any = self.model
        until = changed_until(at)
        later = model.objects.filter(until, id=OuterRef("id"), pgh_id__gt=OuterRef("pgh_id"))
        active = {} if ended else {f"{model.ended_column()}__isnull": True}
        return (
            self.filter(until, ~Exists(later), **active)
            .exclude(pgh_label=Deleted.label)
            .annotate(as_of=Value(at, models.DateTimeField()))
        )


class Event(LibraryEvent):
    """A row as it was after a change: its columns, the time (`pgh_created_at`) and who made it (`pgh_context`)."""

    pgh_id = models.BigAutoField(primary_key=True)
    pgh_tracked_model: Any
    pgh_context: dict[str, Any]
    previous: "Event | None"

    objects: ClassVar[Any] = EventQuerySet.as_manager()

    class Meta:
        abstract = True

    @classmethod
    def ended_column(cls) -> str:
        """The column that hides a record of the tracked model; empty where records are not hidden."""
        return str(getattr(cls.pgh_tracked_model._default_manager.all(), "ended_column", ""))


# The id of the owner of an event. The policies of the event tables compare with the same expression.
EVENT_OWNER = Coalesce("pgh_owner_id", "created_by_id", output_field=models.BigIntegerField())


class OwnedEventQuerySet(EventQuerySet):
    def owned_by(self, owner: Owner) -> Self:
        """The events of the records that belong to an owner now, those from before a transfer included."""
        if isinstance(owner, Combinable):
            return self.filter(Exact(EVENT_OWNER, owner))
        return self.filter(Exact(EVENT_OWNER, owner.pk)) if owner.pk else self.none()

    def give_to(self, owner_id: int) -> int:
        """Set the owner of these events, as a transfer of their records does. Returns the number of changed events.

        All other columns keep their values, `created_by` included, so that no seal breaks.
        """
        with pgtrigger.ignore(f"{self.model._meta.label}:append_only"):
            return self.exclude(Exact(EVENT_OWNER, owner_id)).update(pgh_owner_id=owner_id)


class OwnedEvent(Event):
    """An event of an owned record. It belongs to `pgh_owner_id`, or while that is empty to its own `created_by`: a
    transfer gives the past to the record's new owner."""

    pgh_owner_id = models.BigIntegerField(null=True, editable=False)

    objects: ClassVar[Any] = OwnedEventQuerySet.as_manager()

    class Meta:
        abstract = True

    @classmethod
    def owner_index(cls, name: str) -> models.Index:
        """The index of lists with `as_of`."""
        return models.Index(EVENT_OWNER, F("id").desc(), F("pgh_id").desc(), name=name)


def attach_previous(page: Sequence[Event], before: Event | None) -> None:
    """Give each event of a page, the latest first, the one before it as `previous`. `before` precedes the last one."""
    for event, previous in zip(page, [*page[1:], before], strict=False):
        event.previous = previous


@cache
def event_models() -> dict[Any, Any]:
    """The model of the events by the model whose history they are."""
    return {model.pgh_tracked_model: model for model in apps.get_models() if issubclass(model, Event)}


def event_model_of(model: type[Model]) -> Any:
    """The model of the events of this model's records; None where no history is kept."""
    return event_models().get(model)


def track_history(
    model: type[Model],
    base: Any = Event,
    *,
    listed_by: Iterable[str] = (),
    exclude: Iterable[str] = (),
    app_label: str | None = None,
) -> type[Event]:
    """Make the append-only event model `<Model>Event` of a model, and the triggers that fill it.

    `base` is OwnedEvent for owned records. `listed_by` names the foreign keys that lists with `as_of` filter by beside
    the owner, each of which gets an index; `exclude` names the fields that history does not store.
    """
    indexes = [models.Index(fields=["id", "-pgh_id"], name=f"{model._meta.model_name}_history")]
    if issubclass(base, OwnedEvent):
        indexes.append(base.owner_index(f"{model._meta.model_name}_then_owner"))
    indexes += [
        models.Index(fields=[field, "-id", "-pgh_id"], name=f"{model._meta.model_name}_then_{field}")
        for field in listed_by
    ]
    events: type[Event] = create_event_model(  # type: ignore[assignment]
        model,
        Inserted(),
        Updated(),
        Deleted(),
        exclude=list(exclude),
        obj_field=None,  # type: ignore[arg-type]  # events carry the id of the row
        context_field=pghistory.ContextJSONField(null=False),
        context_id_field=None,  # type: ignore[arg-type]
        append_only=True,
        model_name=f"{model.__name__}Event",
        app_label=app_label,
        base_model=base,
        meta={"indexes": indexes},
        abstract=False,
    )
    return events
