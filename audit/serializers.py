"""Events of the history and rows of the access log in JSON."""

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers

from audit.history import Deleted, Event, Inserted, OwnedEvent
from audit.models import PatientAccess
from healthcare.api.fields import DateTimeField, ModelSerializer

NOT_GIVEN: tuple[Any, ...] = ("", [])  # the values of a new record's fields that say nothing
BOOKKEEPING = {"id", "created_by", "created_at", "updated_at", "version"}


@extend_schema_serializer(component_name="HistoryEvent")  # `Event` is a type of browsers and of Python's libraries
class EventSerializer(serializers.Serializer):
    """A change of a record. `changes` holds `[before, after]` of each changed field; of a creation, the fields that
    were given."""

    # It represents events whose `previous` is the event before them, or None for the first one, of a queryset
    # `with_actor_names`.
    version = serializers.IntegerField()
    at = DateTimeField(source="pgh_created_at")
    action = serializers.SerializerMethodField()
    actor = serializers.SerializerMethodField(
        help_text="The user's id; null for changes by a command or directly in the database."
    )
    actor_name = serializers.CharField(
        read_only=True,
        allow_null=True,
        help_text="The user's name; null where `actor` is, and once the user is erased.",
    )
    request_id = serializers.SerializerMethodField()
    reason = serializers.SerializerMethodField(help_text="The X-Change-Reason header of the request.")
    changes = serializers.SerializerMethodField()

    def get_action(self, event: Event) -> str:
        if event.pgh_label != "update":
            return {Inserted.label: "create", Deleted.label: "delete"}[event.pgh_label]
        ended = self.get_changes(event).get(event.ended_column()) if event.previous else None
        if ended is None or None not in ended:
            return "update"
        return "delete" if ended[0] is None else "restore"

    def get_actor(self, event: Event) -> int | None:
        return event.pgh_context.get("actor")

    def get_request_id(self, event: Event) -> str | None:
        return event.pgh_context.get("request_id")

    def get_reason(self, event: Event) -> str | None:
        return event.pgh_context.get("reason")

    def get_changes(self, event: Event) -> dict[str, list[Any]]:
        previous = event.previous
        pairs = {
            field.name: [getattr(previous, field.attname, None), getattr(event, field.attname)]
            for field in event._meta.fields
            if not field.name.startswith("pgh_") and field.name not in BOOKKEEPING
        }
        if isinstance(previous, OwnedEvent):
            pairs["created_by"] = [previous.created_by_id, event.created_by_id]  # type: ignore[attr-defined]  # a transfer
        return {
            name: pair
            for name, pair in pairs.items()
            if pair[0] != pair[1] and (previous is not None or pair[1] not in NOT_GIVEN)
        }


class PatientAccessSerializer(ModelSerializer):
    # It represents accesses `with_actor_names`.
    actor_name = serializers.CharField(
        read_only=True, allow_null=True, help_text="The user's name; null once the user is erased."
    )

    class Meta:
        model = PatientAccess
        fields = ["at", "actor", "actor_name", "action", "basis", "request_id", "outcome"]
