"""Merging two patients in the admin, side by side, and undoing it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from audit.admin.wording import Users, value_text
from healthcare.admin.actions import (
    CONFIRMED,
    ActionsAdmin,
    PreviewedAction,
    Refusals,
    action_url,
    changed_since_preview,
    describe_violation,
    list_url,
)
from healthcare.admin.labels import field_label
from healthcare.rls.context import with_caller_id
from patients.birth import LIFE_FIELDS, Life, resolve_life
from patients.duplicates import find_likely_duplicates
from patients.legal_hold import held_among
from patients.merges import choosable_fields, describe_moves, fields_to_fill, fields_to_restore, merge, unmerge
from patients.models import Patient, PatientMerge

FROM_SURVIVOR, FROM_DUPLICATE = "survivor", "duplicate"  # the values of a field's choice
ANOTHER_OWNER = "The two patients belong to different owners. Only patients of one owner can be merged."


@dataclass(frozen=True)
class FieldRow:
    """A row of the page: a field with both values, each as lines of text, and which of them is chosen."""

    name: str
    label: str
    survivor: list[str]
    duplicate: list[str]
    differs: bool
    chosen: str = FROM_SURVIVOR
    error: str = ""


class MergePatients(PreviewedAction):
    """The page takes the two patients as `id`, and as `survivor` the id of the one that stays: by default the one of
    whom more is known."""

    name = permission = "merge"
    label = "Merge two selected patients"
    verb, done = "merge", "merged"
    explanation = ""
    undone_by = "unmerge"
    maximum = 2
    template = "admin/patients/merge.html"

    def links(self, model_admin: ActionsAdmin, record: Patient) -> list[tuple[str, str]]:
        url = reverse("admin:patients_patient_duplicates", args=[record.pk])
        return [(url, "Find duplicates")] if record.deleted_at is None else []

    def selection_problem(self, model_admin: ActionsAdmin, ids: Sequence[int]) -> str:
        return "" if len(ids) == 2 else "Select exactly two patients to merge. Nothing was changed."

    def preview(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        pair = survivor_and_duplicate(list(self.rows(model_admin, request, ids)), request)
        if pair is None:
            model_admin.message_user(request, "One of the two patients does not exist.", messages.WARNING)
            return HttpResponseRedirect(list_url(model_admin, request))
        return self.show(model_admin, request, *pair, chosen=fields_to_fill(*pair))

    def show(
        self,
        model_admin: ActionsAdmin,
        request: HttpRequest,
        survivor: Patient,
        duplicate: Patient,
        *,
        chosen: Collection[str],
        errors: Mapping[str, str] | None = None,
        refusal: str = "",
    ) -> HttpResponse:
        model_admin.record_read(request, self.access_action, [survivor, duplicate])
        swapped = f"{action_url(model_admin, self.name, [survivor.pk, duplicate.pk])}&survivor={duplicate.pk}"
        refusal = refusal or self.find_refusal(survivor, duplicate)
        context = {
            "title": f"Merge patient {duplicate.pk} into patient {survivor.pk}",
            "survivor": survivor,
            "duplicate": duplicate,
            "survivor_link": model_admin.link_to_record(survivor),
            "duplicate_link": model_admin.link_to_record(duplicate),
            "selected": [survivor, duplicate],
            "refusal": refusal,
            "has_errors": bool(errors),
            "rows": [] if refusal else compare_fields(survivor, duplicate, chosen, errors or {}),
            "identifiers": describe_identifiers(survivor, duplicate),
            "moves": [] if refusal else describe_moves(survivor, duplicate),
            "swap_url": swapped,
            "button": "Merge the two patients",
            "undo": self.describe_undo(model_admin, request),
        }
        return self.page(model_admin, request, context)

    def describe_undo(
        self, model_admin: ActionsAdmin, request: HttpRequest, done: Sequence[Any] | None = None
    ) -> SafeString:
        if done:
            return super().describe_undo(model_admin, request, done)
        return format_html("{}", "To undo it, choose Undo merge on the page of either patient.")

    def find_refusal(self, survivor: Patient, duplicate: Patient) -> str:
        """Why the two cannot be merged, as a sentence; empty if they can."""
        for patient in (survivor, duplicate):
            if patient.merged_into_id:
                return f"Patient {patient.pk} was merged into patient {patient.merged_into_id}."
            if patient.deleted_at:
                return f"Patient {patient.pk} is deleted. Restore it first."
        if survivor.created_by_id != duplicate.created_by_id:
            return ANOTHER_OWNER
        held = [str(patient.pk) for patient in held_among([survivor, duplicate])]
        return f"Under a legal hold: patient {' and '.join(held)}. Release the hold first." if held else ""

    def confirm(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        with transaction.atomic():
            locked = self.lock(model_admin, request, ids)
            pair = survivor_and_duplicate(locked, request)
            if pair is None:
                return self.preview(model_admin, request, ids)
            survivor, duplicate = pair
            if duplicate.merged_into_id == survivor.pk:
                return self.report(model_admin, request, survivor, duplicate, "was already merged")
            if changed_since_preview(request, locked):
                return self.preview_again(model_admin, request, ids)
            chosen = chosen_fields(request, survivor, duplicate)
            if refusal := self.find_refusal(survivor, duplicate):
                return self.show(model_admin, request, survivor, duplicate, chosen=chosen, refusal=refusal)
            if errors := find_contradictions(survivor, duplicate, chosen):
                return self.show(model_admin, request, survivor, duplicate, chosen=chosen, errors=errors)
            try:
                with transaction.atomic():
                    merge(survivor, duplicate, chosen)
            except IntegrityError as error:
                refusal = f"{describe_violation(error)}."
                return self.show(model_admin, request, survivor, duplicate, chosen=chosen, refusal=refusal)
            message = f"Merged patient {duplicate.pk} into patient {survivor.pk}."
            model_admin.log_changes(request, [survivor, duplicate], self.log_flag, message)
        return self.report(model_admin, request, survivor, duplicate, "was merged")

    def report(
        self, model_admin: ActionsAdmin, request: HttpRequest, survivor: Patient, duplicate: Patient, done: str
    ) -> HttpResponse:
        text = format_html(
            "Patient {} {} into patient {}. {}",
            duplicate.pk,
            done,
            survivor.pk,
            self.describe_undo(model_admin, request, [duplicate]),
        )
        model_admin.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:patients_patient_change", args=[survivor.pk]))

    def urls(self, model_admin: ActionsAdmin) -> list[Any]:
        def duplicates(request: HttpRequest, object_id: int) -> HttpResponse:
            return self.duplicates_view(model_admin, request, object_id)

        view = model_admin.admin_site.admin_view(duplicates)
        return [
            *super().urls(model_admin),
            path("<int:object_id>/duplicates/", view, name="patients_patient_duplicates"),
        ]

    def duplicates_view(self, model_admin: ActionsAdmin, request: HttpRequest, patient_id: int) -> HttpResponse:
        """The likely duplicates of a patient, each with a link to compare and merge the two."""
        if not self.is_allowed(model_admin, request):
            raise PermissionDenied
        patient = model_admin.get_object(request, str(patient_id))
        if patient is None:
            model_admin.message_user(request, f"There is no patient {patient_id}.", messages.WARNING)
            return HttpResponseRedirect(list_url(model_admin, request))
        with with_caller_id(patient.created_by_id):
            found = find_likely_duplicates(patient) if patient.deleted_at is None else []
        model_admin.record_read(request, "duplicates", [patient, *(one.patient for one in found)])
        context = {
            **model_admin.admin_site.each_context(request),
            "title": f"Likely duplicates of patient {patient.pk}",
            "opts": model_admin.opts,
            "list_url": list_url(model_admin, request),
            "patient_link": model_admin.link_to_record(patient),
            "found": [
                {
                    "link": model_admin.link_to_record(one.patient),
                    "id": one.patient.pk,
                    "agrees_on": ", ".join(field_label(column_of(name)) for name in one.agrees_on),
                    "merge_url": action_url(model_admin, self.name, [patient.pk, one.patient.pk]),
                }
                for one in found
            ],
        }
        return TemplateResponse(request, "admin/patients/duplicates.html", context)


class UndoMerges(PreviewedAction):
    """Takes the merged records. Its statements grow with their number, so few may be selected."""

    name = "unmerge"
    permission = "merge"
    label = "Undo merges of selected patients"
    verb, done = "undo the merge of", "unmerged"
    explanation = (
        "The merged record is active again with its own values and assignments. What the other record got from it is "
        "taken back, unless it was changed since the merge."
    )
    maximum = 10
    template = "admin/patients/unmerge.html"

    def links(self, model_admin: ActionsAdmin, record: Patient) -> list[tuple[str, str]]:
        if record.merged_into_id:
            return [(action_url(model_admin, self.name, [record.pk]), "Undo merge")]
        merged = Patient.objects.filter(merged_into=record.pk).order_by("pk").values_list("pk", flat=True)
        return [(action_url(model_admin, self.name, [key]), f"Undo merge of patient {key}") for key in merged]

    def lock(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> list[Patient]:
        """Lock the survivors too, all in the order of their ids."""
        merged = Patient.objects.filter(pk__in=ids, merged_into__isnull=False)
        survivors: list[int] = [*merged.values_list("merged_into", flat=True)]  # type: ignore[list-item]
        rows = self.rows(model_admin, request, [*ids, *survivors]).select_for_update(of=("self",), no_key=True)
        return [patient for patient in rows if patient.pk in ids]

    def refusals(self, model_admin: ActionsAdmin, request: HttpRequest, records: Sequence[Patient]) -> Refusals:
        survivors = Patient.objects.in_bulk([one.merged_into_id for one in records if one.merged_into_id])
        held = {patient.pk for patient in held_among([*records, *survivors.values()])}
        found = {one.pk: self.find_refusal(one, survivors.get(one.merged_into_id or 0), held) for one in records}
        return {key: reason for key, reason in found.items() if reason}

    def find_refusal(self, patient: Patient, survivor: Patient | None, held: Collection[int]) -> str:
        if survivor is None:
            return "is not merged into another patient"
        if next_survivor := survivor.merged_into_id:
            return f"is merged into patient {survivor.pk}, which was merged into {next_survivor}; undo that first"
        if survivor.deleted_at:
            return f"is merged into patient {survivor.pk}, which is deleted; restore that one first"
        if {patient.pk, survivor.pk} & set(held):
            return "is under a legal hold, or the record that it was merged into is"
        return ""

    def preview(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> HttpResponse:
        response = super().preview(model_admin, request, ids)
        if isinstance(response, TemplateResponse):
            undone = PatientMerge.objects.active().filter(duplicate__in=ids).select_related("survivor").order_by("pk")
            response.context_data["restored"] = [describe_restored(merge) for merge in undone]  # type: ignore[index]
        return response

    def perform(self, model_admin: ActionsAdmin, request: HttpRequest, records: Sequence[Patient]) -> str:
        survivors = []
        for duplicate in records:
            survivor = Patient.objects.get(pk=duplicate.merged_into_id or 0)
            unmerge(survivor, duplicate)
            survivors.append(survivor)
        model_admin.log_changes(request, survivors, self.log_flag, "Undone the merge of another patient into it.")
        return ""

    def describe_undo(
        self, model_admin: ActionsAdmin, request: HttpRequest, done: Sequence[Any] | None = None
    ) -> SafeString:
        return format_html("{}", "They can be merged again.")


def survivor_and_duplicate(patients: Sequence[Patient], request: HttpRequest) -> tuple[Patient, Patient] | None:
    """The survivor and the duplicate; None unless there are two."""
    if len(patients) != 2:
        return None
    parameters = request.POST if CONFIRMED in request.POST else request.GET
    wanted = parameters.get("survivor", "")
    ranked = sorted(patients, key=lambda one: (str(one.pk) != wanted, -known_fields(one), one.pk))
    return ranked[0], ranked[1]


def known_fields(patient: Patient) -> int:
    return sum(getattr(patient, name) not in (None, "", [], "U") for name in choosable_fields())


def column_of(name: str) -> models.Field:
    return next(field for field in Patient._meta.concrete_fields if field.attname == name)


def compare_fields(
    survivor: Patient, duplicate: Patient, chosen: Collection[str], errors: Mapping[str, str]
) -> list[FieldRow]:
    """The fields that a merge chooses between."""
    rows = []
    for name in ("name", *(field for field in choosable_fields() if field != "name")):
        values = getattr(survivor, name), getattr(duplicate, name)
        choice = FROM_DUPLICATE if name in chosen else FROM_SURVIVOR
        lines = show_value(survivor, name), show_value(duplicate, name)
        label, differs = field_label(column_of(name)), values[0] != values[1]
        rows.append(FieldRow(name, label, *lines, differs, choice, errors.get(name, "")))
    return rows


def describe_identifiers(survivor: Patient, duplicate: Patient) -> FieldRow:
    """All of them are kept."""
    name = "identifiers"
    lines = show_value(survivor, name), show_value(duplicate, name)
    return FieldRow(name, field_label(column_of(name)), *lines, differs=False)


def show_value(patient: Patient, name: str) -> list[str]:
    """A field's value as lines of text."""
    return value_text(column_of(name), getattr(patient, name), Users([])).splitlines()


def chosen_fields(request: HttpRequest, survivor: Patient, duplicate: Patient) -> set[str]:
    """The fields whose values the survivor takes from the duplicate. A field without a choice gets the API's rule."""
    filled = fields_to_fill(survivor, duplicate)
    chosen = set()
    for name in choosable_fields():
        if getattr(survivor, name) != getattr(duplicate, name):
            default = FROM_DUPLICATE if name in filled else FROM_SURVIVOR
            if request.POST.get(f"take_{name}", default) == FROM_DUPLICATE:
                chosen.add(name)
    return chosen


def find_contradictions(survivor: Patient, duplicate: Patient, chosen: Collection[str]) -> dict[str, str]:
    """What the choices make of birth and death that cannot be, by field."""
    life = {name: getattr(duplicate if name in chosen else survivor, name) for name in LIFE_FIELDS}
    try:
        resolved = resolve_life(life, Life)
    except ValidationError as error:
        return {name: " ".join(texts) for name, texts in error.message_dict.items()}
    changed = [name for name in LIFE_FIELDS if resolved[name] != life[name]]
    return dict.fromkeys(changed, "This contradicts the date of death.")


def describe_restored(undone: PatientMerge) -> str:
    restored = fields_to_restore(undone.survivor, undone)
    changed = [name for name, value in restored.items() if getattr(undone.survivor, name) != value]
    fields = ", ".join(field_label(column_of(name)) for name in changed)
    return f"Patient {undone.survivor_id} gets back what it had before: {fields or 'no field differs'}."
