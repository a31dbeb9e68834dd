"""Base viewsets of the domains: history, `as_of` and the access log."""

import datetime
from collections.abc import Set
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import cached_property
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, NotAuthenticated, ValidationError
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from audit.fast_lists import FastHistory
from audit.history import attach_previous, history_kept_since
from audit.middleware import record_refusal
from audit.models import AccessLog, Basis
from audit.patient_data import patient_id_field_of, patient_ids_of
from audit.serializers import EventSerializer
from healthcare.api.exceptions import refuse
from healthcare.api.filters import IdFilter, read_date_time
from healthcare.api.viewsets import RecordViewSet
from healthcare.coverage import covered_by_fast_path
from healthcare.fastpath.actions import AccessRecording, FastAction
from healthcare.fastpath.placeholders import BASIS, CALLER, REQUEST_ID
from healthcare.ownership import Owner
from healthcare.rfc3339 import WRITE_A_TIME

AS_OF_REFUSED = "`as_of` works with GET only, and not on history/ and access-log/."
# Query parameters that cannot be combined with `as_of`: the history has no index for them, and only the present has
# deleted records.
PRESENT_ONLY = {"ordering", "include", "search", "deleted"}
AS_OF = OpenApiParameter(
    "as_of",
    OpenApiTypes.DATETIME,
    description="Returns the state at that time (RFC 3339). Needs a token, on public lists too. 400 with the code "
    "`archived` for a time whose history has been archived.",
)


@covered_by_fast_path
class HistoryViewSet(RecordViewSet):
    """Adds /history/ and `?as_of=` to records. The fast path serves requests without `as_of`."""

    lookup_field = "id"  # records and their events have it
    lookup_url_kwarg = "pk"
    event_model: ClassVar[Any]  # the model of the records' events
    actions_on_ended: ClassVar[Set[str]] = frozenset()  # whose `as_of` finds records that had ended, too
    fast_implementations: ClassVar[dict[str, type[FastAction]]] = {"history": FastHistory}

    @classmethod
    def past_scope(cls, owner: Owner) -> QuerySet:
        """The events of the records that the owner may see."""
        return cls.event_model.objects.owned_by(owner)  # type: ignore[no-any-return]

    @classmethod
    def history_scope(cls, owner: Owner) -> QuerySet:
        """The records whose history the owner may see."""
        return cls.in_state(cls.scope(owner), "history")

    def get_queryset(self) -> QuerySet:
        if self.as_of:
            if not self.request.user.is_authenticated:
                raise NotAuthenticated  # what a public record held before may have been removed on purpose
            ended = self.action in self.actions_on_ended
            return self.past_scope(self.owner).as_of(self.as_of, ended=ended)  # type: ignore[attr-defined,no-any-return]
        return self.history_scope(self.owner) if self.action == "history" else super().get_queryset()

    @cached_property
    def as_of(self) -> datetime.datetime | None:
        """The requested time; None for the present. Raises ValidationError (400) for anything but a past time."""
        text = self.request.query_params.get("as_of")
        if text is None:
            return None
        if self.action not in {"list", "retrieve"}:
            raise ValidationError({"as_of": [AS_OF_REFUSED]})
        at = read_date_time(text)
        if at is None:
            raise ValidationError({"as_of": [WRITE_A_TIME]})
        refuse(self.present_only_parameters(), "invalid", "Remove this parameter; it cannot be combined with `as_of`.")
        if at > timezone.now():
            raise ValidationError({"as_of": ["Write a time that is not in the future."]})
        since = history_kept_since()
        if since and at < since:
            detail = f"The history before {since:%Y-%m-%dT%H:%M:%SZ} has been archived; write this time or a later one."
            raise ValidationError({"as_of": [ErrorDetail(detail, "archived")]})
        return at

    def present_only_parameters(self) -> set[str]:
        """The query parameters of this request that `as_of` excludes. A filter by a record's id is one of them, since
        that record may not have existed then."""
        filterset = getattr(self, "filterset_class", None)
        filters = filterset.base_filters if filterset else {}
        by_id = {name for name, filter_ in filters.items() if isinstance(filter_, IdFilter)}
        return self.request.query_params.keys() & (PRESENT_ONLY | by_id)

    def paginate_queryset(self, queryset: QuerySet) -> Any:  # type: ignore[override]
        if self.as_of and self.paginator:
            self.paginator.key = "id"  # type: ignore[attr-defined]  # an event's own key identifies the change, not the record
        return super().paginate_queryset(queryset)

    @extend_schema(summary="List the changes of a record", responses=EventSerializer(many=True))
    @action(detail=True, permission_classes=[IsAuthenticated])
    def history(self, request: Request, pk: int) -> Response:
        """Every change of the record, the latest first. Where older changes have been archived, the oldest entry is the
        state that they left, as an `update` of every field from null."""
        events = self.event_model.objects.filter(id=self.get_object().pk)
        page = self.paginate_queryset(events.with_actor_names())
        before = events.filter(pgh_id__lt=page[-1].pk).order_by("-pgh_id").first() if page else None
        attach_previous(page, before)
        return self.get_paginated_response(EventSerializer(page, many=True).data)


@covered_by_fast_path
class ReadsRecordedViewSet(HistoryViewSet):
    """Writes an access-log row for every request that returns data of patients: those of the rows that the view reads.

    The row is written in the request's transaction, so that no answer is sent without it. `AuditMiddleware` records a
    refusal (404) after the transaction has been rolled back.
    """

    acts_for_owner = True
    path_names_patient: ClassVar[bool | None] = None  # whether the id in the path is a patient's; None: a record's

    @classmethod
    def access_recording(cls, action: str) -> AccessRecording | None:
        if action == "create":
            return None  # the answer contains only what the client has sent
        return AccessRecording(
            insert=AccessLog.objects.INSERT_IN_STATEMENT,
            parameters=((CALLER, cls.access_action(action)), (BASIS, REQUEST_ID)),
            column=cls.patient_field(),
            path_names_subject=cls.is_patient_path(),
        )

    @classmethod
    def patient_field(cls) -> str:
        """The field of a record with the patient's id."""
        field = patient_id_field_of(cls.event_model)
        if field is None:
            raise ImproperlyConfigured(
                f"The records of {cls.__name__} are about no patient; derive it from HistoryViewSet."
            )
        return field

    @classmethod
    def is_patient_path(cls) -> bool:
        """Whether the id in the path is a patient's."""
        return cls.patient_field() == "id" if cls.path_names_patient is None else cls.path_names_patient

    @classmethod
    def access_action(cls, action: str) -> str:
        return f"{cls.event_model.pgh_tracked_model._meta.model_name}.{action}"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.patients_read: set[int] = set(self.patients_in_path())
        super().initial(request, *args, **kwargs)

    def patients_in_path(self) -> list[int]:
        """The id of the patient in the path, if the path has one."""
        return [int(self.kwargs["pk"])] if self.is_patient_path() and "pk" in self.kwargs else []

    def get_object(self) -> Any:
        record = super().get_object()
        self.patients_read |= patient_ids_of([record])
        return record

    def paginate_queryset(self, queryset: QuerySet) -> Any:  # type: ignore[override]
        page = super().paginate_queryset(queryset)
        self.patients_read |= patient_ids_of(page or [])
        return page

    def note_reads(self, subjects: Set[int]) -> None:
        self.patients_read |= subjects

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        # An update returns the whole record, too; a create returns only what the client has sent.
        creates = self.action == "create"
        answers = request.method in {"GET", "HEAD", "POST", "PUT", "PATCH"} and not creates
        lists_duplicates = final.status_code == 409 and self.patients_read
        reports_rows = final.status_code == 422 and self.patients_read - {*self.patients_in_path()}  # of an import
        is_recorded = (
            lists_duplicates
            or reports_rows
            or (answers and (final.status_code < 400 or final.status_code in {403, 404}))
        )
        # Other answers may come from a failed authentication, which must not run again. The one that refused a caller
        # without a delegation has left the caller's id.
        refused = getattr(request, "refused_delegate", None)
        if is_recorded and (request.user.pk or refused):
            access: dict[str, Any] = {
                "actor": request.user.pk or refused,
                "action": self.access_action(self.action),
                "patient_ids": self.patients_read,
                "basis": Basis.DELEGATE if refused else Basis.of(self.owner),
                "request_id": getattr(request, "request_id", ""),
                "outcome": final.status_code,
            }
            # A list by POST (`healthcare.api.search_by_post`) has become the action `list`.
            is_pure_read = request.method in SAFE_METHODS or self.action == "list"
            if final.status_code >= 400:
                record_refusal(request._request, access)
            else:
                AccessLog.objects.record(**access, pure_read=is_pure_read)
        return final
