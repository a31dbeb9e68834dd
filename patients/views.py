"""/api/patients/: the patients of the owner of the request."""

from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts.delegations.audience import audience_of
from accounts.delegations.named_users import as_named_user
from accounts.delegations.serializers import AudienceSerializer
from accounts.delegations.user_lookup import look_up_user
from audit.exports import RecordedExportMixin
from audit.fast_lists import FastAccessLog
from audit.models import PatientAccess
from audit.patient_data import patient_ids_of
from audit.serializers import PatientAccessSerializer
from audit.views import AS_OF, ReadsRecordedViewSet
from healthcare.api.exceptions import Duplicate, refuse
from healthcare.api.schema import PROBLEM, describe_operations, describe_view
from healthcare.api.search_by_post import SearchByPostMixin
from healthcare.api.viewsets import DELETED, RestorableViewSet
from healthcare.coverage import covered_by_fast_path
from healthcare.fastpath.views import FastPathMixin
from healthcare.imports.mixins import ImportMixin
from healthcare.ownership import Owner
from patients import merges, transfers
from patients.duplicates import LikelyDuplicate, find_likely_duplicates, lock_against_duplicates
from patients.filters import PatientFilter
from patients.imports import PatientImporter
from patients.models import PATIENT_SEARCH, Patient, PatientEvent
from patients.serializers import DuplicateSerializer, MergeSerializer, PatientSerializer
from patients.transfer_serializers import OfferSerializer, TransferSerializer

NO_DUPLICATE = ErrorDetail("There is no such record.", "does_not_exist")
ON_DUPLICATE = OpenApiParameter(
    "on_duplicate",
    {"type": "string", "enum": ["reject"]},
    description="`reject` refuses (409) a patient who is likely on record already. Without it the patient is added.",
)


@describe_view(
    list=extend_schema(parameters=[AS_OF, DELETED]),
    retrieve=extend_schema(parameters=[AS_OF]),
    destroy=extend_schema(
        description="409 while the patient is under a legal hold.", responses={204: None, 409: PROBLEM}
    ),
    search=extend_schema(
        operation_id="patients_search",
        summary="Search your patients without a name in the URL",
        description="Lists your patients as `GET /api/patients/` does, with its parameters in the body, so that names, "
        "identifiers and phone numbers are in no URL. For the next page, send the same body with the `cursor` of the "
        "`Link` header, in the body or in the URL.",
        responses=PatientSerializer(many=True),
    ),
    import_records=extend_schema(operation_id="patients_import", summary="Import patients"),
    create=extend_schema(
        operation_id="patients_create",
        summary="Add a patient",
        description="With `on_duplicate=reject`, 409 when the patient is likely on record already. The member "
        "`duplicates` of the problem lists the likely duplicates as `GET /api/patients/{id}/duplicates/` does.",
        parameters=[ON_DUPLICATE],
        responses={201: PatientSerializer, 409: PROBLEM},
    ),
)
@describe_operations("patients", one="a patient", many="your patients")
class PatientViewSet(FastPathMixin, ImportMixin, SearchByPostMixin, RecordedExportMixin, RestorableViewSet):
    """The patients of the owner of the request. Only the owner and the owner's delegates can see them."""

    queryset = Patient.objects.none()
    event_model = PatientEvent
    serializer_class = PatientSerializer
    filterset_class = PatientFilter
    search_index = PATIENT_SEARCH
    importer_class = PatientImporter
    more_columns = ["fhir"]
    ordering_fields = ["name", "created_at", "updated_at"]
    create_hooks = {"on_duplicate": "reject_duplicates"}
    fast_actions = frozenset(
        {"list", "retrieve", "create", "update", "partial_update", "search", "history", "access_log"}
    )
    fast_implementations = {**ReadsRecordedViewSet.fast_implementations, "access_log": FastAccessLog}
    reads_replicas = True
    successor_field = "merged_into"
    successor_actions = frozenset(
        {
            "retrieve",
            "update",
            "partial_update",
            "destroy",
            "restore",
            "access_log",
            "audience",
            "duplicates",
            "merge",
            "unmerge",
            "transfer",
        }
    )

    @staticmethod
    def scope(owner: Owner) -> QuerySet:
        return Patient.objects.owned_by(owner).unmerged()

    @classmethod
    def history_scope(cls, owner: Owner) -> QuerySet:
        patients = Patient.objects.owned_by(owner)
        owned: QuerySet = patients.active() | patients.merged()
        return owned

    @covered_by_fast_path  # by `successor_field`
    def successor(self) -> str | None:
        return merges.survivor_path(self.owner, self.kwargs["pk"])

    def reject_duplicates(self, serializer: BaseSerializer) -> None:
        """With `on_duplicate=reject`: raise Duplicate (409) if a likely duplicate exists."""
        value = self.request.query_params["on_duplicate"]
        refuse(["on_duplicate"] if value != "reject" else [], "invalid", "Write reject or leave it out.")
        owner_id = self.owner.pk or 0
        lock_against_duplicates(owner_id)
        duplicates = find_likely_duplicates(Patient(created_by_id=owner_id, **serializer.validated_data))
        if duplicates:
            raise Duplicate(duplicates=self.serialize_duplicates(duplicates))

    @extend_schema(
        operation_id="patients_duplicates",
        summary="List likely duplicates",
        responses=DuplicateSerializer(many=True),
    )
    @action(detail=True, pagination_class=None, serializer_class=DuplicateSerializer, filter_backends=[])
    def duplicates(self, request: Request, pk: int) -> Response:
        """Your other patients who are likely the same person, the likeliest first, at most 20. `agrees_on` names the
        fields on which the two agree. Names need not be spelt the same."""
        return Response(self.serialize_duplicates(find_likely_duplicates(self.get_object())))

    def serialize_duplicates(self, duplicates: list[LikelyDuplicate]) -> Any:
        """The duplicates in JSON. Their patients count as read."""
        self.patients_read |= patient_ids_of(duplicate.patient for duplicate in duplicates)
        return DuplicateSerializer(duplicates, many=True, context=self.get_serializer_context()).data

    @covered_by_fast_path
    @extend_schema(
        operation_id="patients_access_log",
        summary="List the reads of a patient",
        responses=PatientAccessSerializer(many=True),
    )
    @action(detail=True, url_path="access-log")
    def access_log(self, request: Request, pk: int) -> Response:
        """Who read this patient's data or was refused it, the latest first."""
        accesses = PatientAccess.objects.filter(patient_id=self.get_object().pk).with_actor_names()
        page = self.paginate_queryset(accesses)
        return self.get_paginated_response(PatientAccessSerializer(page, many=True).data)

    @extend_schema(
        operation_id="patients_audience",
        summary="List who sees a patient",
        responses=AudienceSerializer(many=True),
    )
    @action(detail=True, pagination_class=None, serializer_class=AudienceSerializer, filter_backends=[])
    def audience(self, request: Request, pk: int) -> Response:
        """The owner, and the delegates who may act for the owner, the earliest first. Staff, who see patients in the
        admin by their role, are not listed."""
        members = audience_of(self.get_object().created_by_id)
        return Response(AudienceSerializer(members, many=True).data)

    @extend_schema(operation_id="patients_merge", summary="Merge a duplicate into a patient", request=MergeSerializer)
    @action(detail=True, methods=["post"])
    def merge(self, request: Request, pk: int) -> Response:
        """Merge another record of the same person into this patient. Fields that are empty in this patient are filled
        from the duplicate, unless they contradict this patient. The duplicate's `identifiers` are added, its own
        `identifier` with the system `old`, and its assignments move to this patient. Where both have an active
        assignment of the same doctor, or a primary doctor, this patient's is kept. Afterwards the duplicate answers
        410, except for its history. 409 while one of them is under a legal hold."""
        pair = self.locked_pair(Q(deleted_at=None))
        return Response(self.get_serializer(merges.merge(*pair)).data)

    @extend_schema(operation_id="patients_unmerge", summary="Undo a merge", request=MergeSerializer)
    @action(detail=True, methods=["post"])
    def unmerge(self, request: Request, pk: int) -> Response:
        """Undo a merge: the duplicate is restored with its values and assignments, and the fields that it filled in
        this patient are emptied. What was changed or added since is kept. 409 while one of them is under a legal
        hold."""
        pair = self.locked_pair(Q(merged_into=pk))
        return Response(self.get_serializer(merges.unmerge(*pair)).data)

    @extend_schema(
        operation_id="patients_transfer",
        summary="Offer a patient to another owner",
        request=OfferSerializer,
        responses={202: TransferSerializer, 409: PROBLEM, 429: PROBLEM},
    )
    @action(detail=True, methods=["post"])
    def transfer(self, request: Request, pk: int) -> Response:
        """The patient stays yours until the other side accepts, which has 7 days. Until then it learns nothing about
        the patient. 409 while another offer of this patient is pending, and under a legal hold. 429 after 20 unknown
        usernames within an hour."""
        patient = self.get_object()
        wanted = OfferSerializer(data=request.data, context=self.get_serializer_context())
        wanted.is_valid(raise_exception=True)
        self.check_unknown_fields(wanted)
        to = look_up_user(request, wanted.validated_data["to"], field="to")
        if to.pk == self.owner.pk:
            raise ValidationError(
                {"to": [ErrorDetail("Name another owner; the patient is theirs already.", "invalid")]}
            )
        transfer: Any = transfers.offer(patient, to, request.user)  # type: ignore[arg-type]
        transfer.named_from, transfer.named_to = as_named_user(transfer.from_owner), as_named_user(to)
        return Response(wanted.to_representation(transfer), status=status.HTTP_202_ACCEPTED)

    def locked_pair(self, state: Q) -> tuple[Patient, Patient]:
        """The patient of the path, and the patient that `duplicate` in the body names, which must be in this state.

        The rows are locked in the order of their ids, so that two opposite merges cannot deadlock. Raises Http404 if
        the first is missing and ValidationError (400) if the second is.
        """
        wanted = MergeSerializer(data=self.request.data)
        wanted.is_valid(raise_exception=True)
        key, duplicate_key = self.kwargs["pk"], wanted.validated_data["duplicate"]
        mine = Patient.objects.owned_by(self.owner)
        rows = mine.filter(Q(pk=key, deleted_at=None) | (Q(pk=duplicate_key) & state))
        found = {patient.pk: patient for patient in rows.order_by("pk").locked()}
        survivor, duplicate = found.pop(key, None), found.pop(duplicate_key, None)
        if survivor is None:
            raise Http404
        self.check_unknown_fields(wanted)
        self.check_preconditions(survivor)
        if duplicate is None:
            raise ValidationError({"duplicate": [NO_DUPLICATE]})
        self.patients_read |= {survivor.pk, duplicate.pk}
        return survivor, duplicate
