"""The view behind `audit.PatientAccess`, which joins the access log with patients."""

from healthcare.database_objects import DatabaseObject, declare
from healthcare.rls import OWNER_ID_SQL

# One row of the log may name several patients. The view shows it to the owner of each, once for each patient, without
# the others. It reads with the rights of its own owner, because callers may not read the log; security_barrier
# evaluates the caller's conditions after the view's. A request for an id that did not exist yet is no access to the
# patient who has it since: only accesses after the patient's first event count. Both times are those of one clock.
CREATE_VIEW = f"""
CREATE OR REPLACE VIEW audit_patientaccess WITH (security_barrier) AS
SELECT access.id, patient.id AS patient_id, access.at, access.actor, access.action, access.basis, access.request_id,
    access.outcome
FROM patients_patient patient, LATERAL (
    SELECT * FROM audit_accesslog WHERE patient_ids @> ARRAY[patient.id] AND at >= coalesce(
        (SELECT pgh_created_at FROM patients_patientevent WHERE id = patient.id ORDER BY pgh_id LIMIT 1), '-infinity'
    ) ORDER BY id DESC
) access
WHERE patient.created_by_id = {OWNER_ID_SQL};
GRANT SELECT ON audit_patientaccess TO healthcare_api;
"""  # noqa: S608  (constants alone)
declare(DatabaseObject("patients", "audit_patientaccess", CREATE_VIEW, "DROP VIEW audit_patientaccess;"))
