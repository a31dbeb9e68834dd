"""The view behind `audit.PatientAccess`, which joins the access log with patients."""

from healthcare.database_objects import DatabaseObject, declare

# One row of the log may name several patients. The view shows it to the owner of each, once for each patient, without
# the others. It reads with the rights of its own owner, because callers may not read the log; security_barrier
# evaluates the caller's conditions after the view's.
CREATE_VIEW = """
CREATE OR REPLACE VIEW audit_patientaccess WITH (security_barrier) AS
SELECT access.id, patient.id AS patient_id, access.at, access.actor, access.action, access.basis, access.request_id,
    access.outcome
FROM patients_patient patient, LATERAL (
    SELECT * FROM audit_accesslog WHERE patient_ids @> ARRAY[patient.id] ORDER BY id DESC
) access
WHERE patient.created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint);
GRANT SELECT ON audit_patientaccess TO healthcare_api;
"""
declare(DatabaseObject("patients", "audit_patientaccess", CREATE_VIEW, "DROP VIEW audit_patientaccess;"))
