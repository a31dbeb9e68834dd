"""Handing patients over to another owner in the admin: selected ones, or everything of users who leave."""

from collections.abc import Sequence
from typing import Any

import pghistory
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Count
from django.http import HttpRequest

from accounts.delegations.models import Delegation
from accounts.models import User
from healthcare.admin.actions import CONFIRMED, ActionsAdmin, Refusals
from healthcare.admin.form_actions import FormAction, ReasonForm, reason_field
from healthcare.admin.owners import eligible_owners
from patients.hand_over import HandedOverDelegations, hand_over_delegations, patients_of
from patients.models import Patient
from patients.transfers import lock_with_merged, move_patients

MOST_PATIENTS_OF_USER = 1000  # of one user, in one request; `manage.py hand_over` moves any number


class HandOverForm(ReasonForm):
    """The new owner and the reason."""

    field_order = ("to", "reason")
    to = forms.CharField(
        max_length=254,
        label="New owner",
        help_text="The username of an active user who is not staff, or of a clinic.",
        widget=forms.TextInput(attrs={"class": "vTextField", "autocapitalize": "none"}),
    )
    reason = reason_field("One line, which the history of each record shows. No data of patients.")

    def clean_to(self) -> User:
        """The new owner, whose row stays locked until the end: nobody deactivates the user meanwhile."""
        username = self.cleaned_data["to"].strip().lower()
        user: User | None = eligible_owners().select_for_update(no_key=True).filter(username__lower=username).first()
        if user is None:
            raise ValidationError("Write the username of an active user who is not staff, or of a clinic.")
        return user


class HandOver(FormAction):
    """The page asks for the new owner and the reason."""

    name = permission = "hand_over"
    verb, done = "hand over", "handed over"
    form_class = HandOverForm

    def new_owner(self, request: HttpRequest) -> User | None:
        """Whom the form that was sent names; None for the preview and for a form with errors."""
        if CONFIRMED not in request.POST or not self.sent_form(request).is_valid():
            return None
        user: User = self.sent_form(request).cleaned_data["to"]
        return user

    def perform(self, model_admin: ActionsAdmin, request: HttpRequest, records: Sequence[Any]) -> str:
        values = self.sent_form(request).cleaned_data
        with pghistory.context(reason=values["reason"]):
            return self.hand_over(records, values["to"], request.user)  # type: ignore[arg-type]

    def hand_over(self, records: Sequence[Any], to: User, by: User) -> str:
        raise NotImplementedError


class HandOverPatients(HandOver):
    label = "Hand over selected patients"
    explanation = (
        "The patients belong to the new owner, with the records merged into them, their assignments and their history. "
        "The present owner no longer sees them."
    )
    on_change_page = True

    def is_offered_for(self, record: Patient) -> bool:
        return record.merged_into_id is None

    def lock(self, model_admin: ActionsAdmin, request: HttpRequest, ids: Sequence[int]) -> list[Any]:
        lock_with_merged(ids)
        return super().lock(model_admin, request, ids)

    def refusals(self, model_admin: ActionsAdmin, request: HttpRequest, records: Sequence[Patient]) -> Refusals:
        to = self.new_owner(request)
        refused = {record.pk: "belongs to the new owner already" for record in records if record.created_by == to}
        return refused | {
            record.pk: f"was merged into patient {record.merged_into_id}; hand that one over instead"
            for record in records
            if record.merged_into_id
        }

    def hand_over(self, records: Sequence[Patient], to: User, by: User) -> str:
        givers = {record.created_by_id: record.created_by for record in records}
        for key, giver in sorted(givers.items()):
            move_patients([record.pk for record in records if record.created_by_id == key], giver, to, by)
        return ""


class HandOverUsers(HandOver):
    """Everything of users who leave."""

    label = "Hand over everything of selected users"
    explanation = (
        "All patients of these users belong to the new owner, with their assignments and their history. Delegations "
        "that the users have given go along to a clinic, or to a user without patients; otherwise they end."
    )
    maximum = 10
    on_change_page = True

    def is_offered_for(self, record: User) -> bool:
        return not record.is_clinic

    def refusals(self, model_admin: ActionsAdmin, request: HttpRequest, records: Sequence[User]) -> Refusals:
        to, counts = self.new_owner(request), count_patients(records)
        refused: Refusals = {}
        for user in records:
            if user == to:
                refused[user.pk] = "is the new owner"
            elif user.is_clinic:
                refused[user.pk] = "is a clinic, which keeps its managers; select its patients instead"
            elif counts.get(user.pk, 0) > MOST_PATIENTS_OF_USER:
                refused[user.pk] = f"owns more than {MOST_PATIENTS_OF_USER:,} patients; use `manage.py hand_over`"
        return refused

    def describe(self, records: Sequence[User]) -> list[str]:
        counts, given = count_patients(records), Delegation.objects.living().filter(owner__in=records)
        lines = [f"{user.username}: patients {counts.get(user.pk, 0):,}" for user in records]
        delegations = [
            f"{one.owner.username} has given a delegation to {one.delegate.username} ({one.role})"
            for one in given.select_related("owner", "delegate").order_by("pk")
        ]
        return [*lines, *delegations]

    def hand_over(self, records: Sequence[User], to: User, by: User) -> str:
        total, found = 0, HandedOverDelegations()
        for giver in records:
            delegations = hand_over_delegations(giver, to, by)
            found.moved += delegations.moved
            found.ended += delegations.ended
            total += move_patients(patients_of(giver).values_list("pk", flat=True), giver, to, by)
        return (
            f"Records of patients handed over: {total:,}. Delegations moved: {len(found.moved)}, ended: "
            f"{len(found.ended)}."
        )


def count_patients(users: Sequence[User]) -> dict[int, int]:
    """The number of patients of each of these users who owns any, without merged ones."""
    rows = Patient.objects.unmerged().filter(created_by__in=users).order_by().values_list("created_by")
    return dict(rows.annotate(count=Count("pk")))
