"""History by trigger: every change of a remembered table leaves one event a row, whoever made it and however."""

import datetime
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import pghistory
import pgtrigger
from django.db import models
from django.db.models import Exists, Model, OuterRef, Value
from pghistory.core import create_event_model
from pghistory.models import Event as LibraryEvent
from pghistory.trigger import Event as EventTrigger

from healthcare.ownership import OwnedQuerySet
from healthcare.triggers import DatabaseTrigger

# What a request or the admin said about itself; of a command or psql the database knows the login and the program.
CONTEXT = """COALESCE(NULLIF(current_setting('pghistory.context_metadata', true), '')::jsonb,
    jsonb_build_object('login', session_user, 'application', current_setting('application_name')))"""


class Recorder(DatabaseTrigger, EventTrigger):
    """Writes an event with its owner's rights: callers may not write history."""

    security_definer = True
    event_model: Any

    def get_func(self, model: Any) -> str:
        """Copies the row. The time is the clock's, not the transaction's, so that it runs with the order of events."""
        columns = [field.column for field in self.event_model._meta.fields if not field.name.startswith("pgh_")]
        names = ", ".join(f'"{column}"' for column in columns)
        values = ", ".join(f'{self.row}."{column}"' for column in columns)
        return f"""
    INSERT INTO "{self.event_model._meta.db_table}"
        ({names}, pgh_created_at, pgh_label, pgh_context)
    VALUES ({values}, clock_timestamp(), '{self.label}',
        {CONTEXT});
    RETURN NULL;
"""  # noqa: S608  (names of our own models)


class Recorded(pghistory.RowEvent):
    def add_event_trigger(self, event_model: Any) -> None:
        pgtrigger.register(
            Recorder(  # type: ignore[no-untyped-call]
                event_model=event_model,
                label=self.label,
                name=self.trigger_name,
                row=self.row,
                operation=self.operation,
                condition=self.condition,
            )
        )(event_model.pgh_tracked_model)


class Inserted(Recorded, pghistory.InsertEvent):
    pass


class Updated(Recorded, pghistory.UpdateEvent):
    pass


class Deleted(Recorded, pghistory.DeleteEvent):
    pass


class EventQuerySet(OwnedQuerySet):
    def as_of(self, at: datetime.datetime) -> Self:
        """What was on record and not deleted at that time: of each row the last event until then. Answers are as the
        record stood, not as it was corrected since."""
        model: Any = self.model
        ended, until = model.ended_column(), model.objects.filter(pgh_created_at__lte=at)
        later = until.filter(id=OuterRef("id"), pgh_id__gt=OuterRef("pgh_id"))
        return (
            self.filter(~Exists(later), pgh_created_at__lte=at, **{f"{ended}__isnull": True})
            .exclude(pgh_label=Deleted.label)
            .annotate(as_of=Value(at, models.DateTimeField()))
        )


class Event(LibraryEvent):
    """A row as it was after a change: its columns, and when and by whom (`pgh_created_at`, `pgh_context`)."""

    pgh_id = models.BigAutoField(primary_key=True)
    pgh_tracked_model: Any
    pgh_context: dict[str, Any]
    previous: "Event | None"

    objects: ClassVar[Any] = EventQuerySet.as_manager()

    class Meta:
        abstract = True

    @classmethod
    def ended_column(cls) -> str:
        return str(cls.pgh_tracked_model._default_manager.all().ended_column)


def remember(
    model: type[Model],
    base: Any = Event,
    *,
    listed_by: Iterable[str] = (),
    exclude: Iterable[str] = (),
    app_label: str | None = None,
) -> type[Event]:
    """The append-only event model `<Model>Event` of a model, and the triggers that fill it.

    `listed_by` names the columns that lists of the past are drawn by; `exclude` what is never kept.
    """
    indexes = [models.Index(fields=["id", "-pgh_id"], name=f"{model._meta.model_name}_history")]
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
        obj_field=None,  # type: ignore[arg-type]  # the row's own id says whose event it is
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
