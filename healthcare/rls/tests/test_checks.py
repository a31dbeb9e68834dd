"""The system check of row-level security (rls.E001) reads what the policies say."""
# ruff: noqa: S608  (the SQL is read by the check and never executed)

import pytest
from django.apps import apps
from django.core.checks import CheckMessage
from django.db.models import Model

from accounts.models import LoginSession, User
from doctors.models import Doctor
from healthcare.rls.checks import declared_policies, find_errors, owned_models_have_policies
from healthcare.rls.policies import Policies, read_functions
from mappings.models import Mapping
from patients.models import Patient, PatientMerge

CALLER = "(SELECT nullif(current_setting('app.user_id', true), '')::bigint)"
OWN = f"created_by_id = {CALLER}"
FUNCTION = "CREATE FUNCTION is_own(p bigint) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT EXISTS ({}) $$;"
PATIENT = "EXISTS (SELECT FROM patients_patient p WHERE p.id = patient_id)"


def mapping_policy(check: str, command: str = "") -> str:
    return f"CREATE POLICY own ON mappings_mapping {command} TO healthcare_api USING ({OWN}) WITH CHECK ({check});"


def errors_with(model: type[Model], sql: str | None) -> list[CheckMessage]:
    """The errors when this SQL, or none, protects the model, and all other models are as they are."""
    declared = declared_policies()
    policies = declared.pop((model._meta.app_label, str(model._meta.model_name)))
    if sql is not None:
        changed = Policies(policies.functions | read_functions(sql))
        changed.apply(sql)
        declared[model._meta.app_label, str(model._meta.model_name)] = changed
    return find_errors(list(apps.get_models()), declared)


def test_every_table_of_the_project_passes() -> None:
    assert owned_models_have_policies() == []


@pytest.mark.parametrize("model", [Patient, PatientMerge, Mapping, Doctor, User, LoginSession])
def test_a_model_of_a_user_without_row_level_security_fails(model: type[Model]) -> None:
    (error,) = [error for error in errors_with(model, None) if error.obj is model]
    assert error.id == "rls.E001"
    assert error.msg == f"{model._meta.label} belongs to a user and has no row-level security."


def test_a_foreign_key_to_an_owned_table_that_no_policy_checks_fails() -> None:
    (error,) = errors_with(Mapping, mapping_policy(OWN))
    assert (error.id, error.obj) == ("rls.E001", Mapping)
    assert error.msg == (
        "The row-level security of mappings.Mapping lets a caller write a row whose patient_id names a "
        "patients.Patient of somebody else."
    )
    assert error.hint == (
        "Add to the WITH CHECK of its policies: EXISTS (SELECT FROM patients_patient o WHERE o.id = patient_id)"
    )


@pytest.mark.parametrize(
    "sql",
    [
        mapping_policy(f"{OWN} AND {PATIENT}"),
        mapping_policy(f"{PATIENT} AND ({OWN})"),
        mapping_policy(f"{OWN} AND (patient_id IS NULL OR {PATIENT})"),
        mapping_policy(f"{OWN} AND patient_id IN (SELECT id FROM patients_patient)"),
        mapping_policy(f"{OWN}\n AND EXISTS (\n SELECT 1 FROM patients_patient AS p\n WHERE patient_id = p.id\n )"),
        f"CREATE POLICY own ON mappings_mapping USING ({OWN} AND {PATIENT});",
        f"CREATE POLICY own ON mappings_mapping FOR SELECT USING ({OWN});",
        mapping_policy(OWN) + f"CREATE POLICY r ON mappings_mapping AS RESTRICTIVE USING ({OWN} AND {PATIENT});",
        mapping_policy(OWN) + "DROP POLICY own ON mappings_mapping;" + mapping_policy(f"{OWN} AND {PATIENT}"),
        FUNCTION.format(f"SELECT FROM patients_patient WHERE id = p AND created_by_id = {CALLER}")
        + mapping_policy(f"{OWN} AND is_own(patient_id)"),
    ],
)
def test_a_policy_that_checks_the_foreign_key_passes(sql: str) -> None:
    assert errors_with(Mapping, sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        mapping_policy(f"{OWN} OR {PATIENT}"),
        mapping_policy(f"{OWN} AND ({PATIENT} OR true)"),
        mapping_policy(f"{OWN} AND NOT {PATIENT}"),
        mapping_policy(f"{OWN} AND EXISTS (SELECT FROM patients_patient p WHERE p.id = doctor_id)"),
        mapping_policy(f"{OWN} AND EXISTS (SELECT FROM doctors_doctor p WHERE p.id = patient_id)"),
        mapping_policy(f"{OWN} AND EXISTS (SELECT FROM patients_patient p WHERE p.id = patient_id OR true)"),
        mapping_policy(f"{OWN} AND EXISTS (SELECT FROM patients_patient p)"),
        mapping_policy(f"{OWN} AND is_own(patient_id)"),
        mapping_policy(f"{OWN} -- AND {PATIENT}\n"),
        mapping_policy(f"{OWN} AND reason <> ' AND {PATIENT} AND '"),
        f"CREATE POLICY own ON mappings_mapping USING ({OWN} AND {PATIENT}) WITH CHECK ({OWN});",
        mapping_policy(f"{OWN} AND {PATIENT}") + f"CREATE POLICY b ON mappings_mapping FOR INSERT WITH CHECK ({OWN});",
        mapping_policy(f"{OWN} AND {PATIENT}") + f"CREATE POLICY b ON mappings_mapping FOR UPDATE USING ({OWN});",
        mapping_policy(f"{OWN} AND {PATIENT}") + "DROP POLICY own ON mappings_mapping;" + mapping_policy(OWN),
        FUNCTION.format("SELECT FROM patients_patient WHERE id = p") + mapping_policy(f"{OWN} AND is_own(patient_id)"),
    ],
)
def test_a_policy_that_seems_to_check_the_foreign_key_fails(sql: str) -> None:
    assert "patient_id" in [error.msg.split()[12] for error in errors_with(Mapping, sql)]


def test_a_new_row_in_the_name_of_another_user_fails() -> None:
    anybody = mapping_policy(PATIENT).replace(f"USING ({OWN})", "USING (true)")
    assert [error.msg.split()[12] for error in errors_with(Mapping, anybody)] == ["created_by_id"]


def test_a_foreign_key_to_the_same_table_needs_a_function() -> None:
    (error,) = errors_with(Patient, f"CREATE POLICY own ON patients_patient USING ({OWN});")
    assert (error.obj, str(error.hint).endswith("(merged_into_id IS NULL OR is_own_patient(merged_into_id))")) == (
        Patient,
        True,
    )


def test_what_refers_to_a_public_table_needs_no_check_of_it() -> None:
    assert [error for error in errors_with(Mapping, mapping_policy(OWN)) if "doctor_id" in error.msg] == []
