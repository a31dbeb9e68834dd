"""What the floor asks of PostgreSQL: to enter as the caller, and one statement that answers JSON."""

ENTER = """
SELECT set_config('app.user_id', u.id::text, true), set_config('role', 'healthcare_api', true),
    set_config('statement_timeout', '10s', true), set_config('lock_timeout', '2s', true),
    set_config('pghistory.context_metadata',
        jsonb_build_object('actor', u.id, 'request_id', %(request)s)::text, true){settings}
FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
WHERE s.id = %(session)s AND u.id = %(user)s AND s.revoked_at IS NULL AND s.expires_at > now() AND u.is_active;
"""
READ = ENTER.format(settings=", set_config('synchronous_commit', 'off', true)")
WRITE = ENTER.format(settings="")
ANYONE = """
SELECT set_config('app.user_id', '', true), set_config('role', 'healthcare_api', true),
    set_config('statement_timeout', '10s', true), set_config('lock_timeout', '2s', true);
"""
CALLER = "nullif(current_setting('app.user_id', true), '')::bigint"
OWN = f"created_by_id = {CALLER} AND deleted_at IS NULL"
PATIENT = """id, name,
    CASE WHEN birth_date IS NULL THEN extract(year FROM current_date)::int - birth_year
        ELSE extract(year FROM age(current_date, birth_date))::int END AS age,
    gender, birth_date, birth_year, deceased, identifier, phone, email, address, version,
    created_by_id AS created_by, created_at, updated_at"""
DOCTOR = """d.id, d.name, d.specialization, d.license_number, d.phone, d.email, d.hospital, d.experience_years,
    d.version, d.created_at, d.updated_at"""
LOG = """
logged AS (
    INSERT INTO audit_accesslog (at, actor, action, patient_ids, basis, request_id, outcome)
    SELECT clock_timestamp(), {caller}, '{action}',
        coalesce((SELECT array_agg({key} ORDER BY {key}) FROM answered), '{{}}'), 'owner', %(request)s,
        CASE WHEN {outcome} THEN 200 ELSE 404 END
    WHERE {caller} IS NOT NULL
)"""


def log(action: str, key: str = "id", outcome: str = "true") -> str:
    return LOG.format(caller=CALLER, action=action, key=key, outcome=outcome)


FOUND = "EXISTS (SELECT FROM answered)"
ROW = f"SELECT {CALLER}, (SELECT row_to_json(answered)::text FROM answered)"
ROWS = f"SELECT {CALLER}, (SELECT coalesce(json_agg(answered), '[]')::text FROM answered)"

ONE = f"""{READ}
WITH answered AS (SELECT {PATIENT} FROM patients_patient WHERE {OWN} AND id = %(id)s),
{log("patient.retrieve", outcome=FOUND)}
{ROW}"""
PAGE = f"""{READ}
WITH answered AS (
    SELECT {PATIENT} FROM patients_patient WHERE {OWN} AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s
),
{log("patient.list")}
{ROWS}"""
CREATE = f"""{WRITE}
WITH answered AS (
    INSERT INTO patients_patient (name, gender, birth_year, deceased, identifier, phone, email, address, version,
        created_by_id, created_at, updated_at)
    SELECT b.name, coalesce(b.gender, 'U'), extract(year FROM current_date)::int - b.age, false,
        coalesce(b.identifier, ''), coalesce(b.phone, ''), coalesce(b.email, ''), coalesce(b.address, ''), 1,
        {CALLER}, now(), now()
    FROM json_to_record(%(body)s) AS b (name text, gender text, age int, identifier text, phone text, email text,
        address text)
    WHERE {CALLER} IS NOT NULL
    RETURNING {PATIENT}
)
{ROW}"""
CHANGE = f"""{WRITE}
WITH answered AS (
    UPDATE patients_patient SET address = coalesce(%(body)s::json ->> 'address', address), updated_at = now(),
        version = version + 1
    WHERE {OWN} AND id = %(id)s
    RETURNING {PATIENT}
),
{log("patient.partial_update", outcome=FOUND)}
{ROW}"""
TREATING = f"""{READ}
WITH patient AS (SELECT id FROM patients_patient WHERE {OWN} AND id = %(id)s),
answered AS (
    SELECT {DOCTOR}, m.id AS mapping, m.patient_id
    FROM patient p JOIN mappings_mapping m ON m.patient_id = p.id JOIN doctors_doctor d ON d.id = m.doctor_id
    WHERE m.created_by_id = {CALLER} AND m.ended_at IS NULL ORDER BY m.id DESC LIMIT 100
),
{log("mapping.doctors", key="patient_id", outcome="EXISTS (SELECT FROM patient)")}
SELECT {CALLER}, (SELECT coalesce(json_agg(to_jsonb(answered) - 'patient_id'), '[]')::text FROM answered)
WHERE EXISTS (SELECT FROM patient)"""
DOCTORS = f"""{ANYONE}
SELECT coalesce(json_agg(page), '[]')::text
FROM (SELECT {DOCTOR} FROM doctors_doctor d WHERE deleted_at IS NULL ORDER BY id DESC LIMIT %(limit)s) AS page"""
