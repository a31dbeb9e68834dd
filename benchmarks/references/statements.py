"""The SQL of the references that give the product's guarantees: floor, floor+plan, go and fastify.

A call is one transaction of two statements. The entry statement finds the live session and its active user and sets,
for this transaction, the caller's id, the timeouts and the metadata that the history triggers store. The answer
statement runs as the role `healthcare_api` under row-level security, writes the access log and returns JSON as text.
Without a live session the entry statement sets nothing, so the answer statement sees no row and changes none.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROLE = "healthcare_api"
SESSION_SETTINGS = """
SELECT set_config('app.user_id', u.id::text, true),
    set_config('statement_timeout', '10s', true), set_config('lock_timeout', '2s', true),
    set_config('pghistory.context_metadata',
        jsonb_build_object('actor', u.id, 'request_id', %(request)s::text)::text, true){settings}
FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
WHERE s.id = %(session)s AND u.id = %(user)s AND s.revoked_at IS NULL AND s.expires_at > now() AND u.is_active"""
# A read commits nothing that must reach the disk before its answer.
ENTER_TO_READ = SESSION_SETTINGS.format(settings=", set_config('synchronous_commit', 'off', true)")
ENTER_TO_WRITE = SESSION_SETTINGS.format(settings="")
ENTER_ANONYMOUSLY = """
SELECT set_config('app.user_id', '', true),
    set_config('statement_timeout', '10s', true), set_config('lock_timeout', '2s', true)"""
CALLER = "nullif(current_setting('app.user_id', true), '')::bigint"
OWNED = f"created_by_id = {CALLER} AND deleted_at IS NULL"
PATIENT = """id, name,
    CASE WHEN birth_date IS NULL THEN extract(year FROM current_date)::int - birth_year
        ELSE extract(year FROM age(current_date, birth_date))::int END AS age,
    gender, birth_date, birth_year, deceased, deceased_on, identifier, identifiers, phone, alternate_phone, email,
    address, language, contacts, medical_history, version, created_by_id AS created_by, created_at, updated_at"""
DOCTOR = """d.id, d.name, d.specialization, d.license_number, d.phone, d.email, d.hospital,
    extract(year FROM current_date)::int - d.experience_since AS experience_years, d.version, d.created_at,
    d.updated_at"""
ACCESS_LOG = """
logged AS (
    INSERT INTO audit_accesslog (actor, action, patient_ids, basis, request_id, outcome)
    SELECT {caller}, '{action}',
        coalesce((SELECT array_agg({key} ORDER BY {key}) FROM answered), '{{}}'), 'owner', %(request)s::text,
        CASE WHEN {found} THEN 200 ELSE 404 END
    WHERE {caller} IS NOT NULL
)"""


def access_log(action: str, key: str = "id", found: str = "true") -> str:
    return ACCESS_LOG.format(caller=CALLER, action=action, key=key, found=found)


# Replaced by a number of rows: a generic plan cannot know how few rows a parameter asks for.
LIMIT = "<limit>"
FOUND = "EXISTS (SELECT FROM answered)"
# Every answer statement returns one row: the caller's id, null without a live session, and the JSON, null for a 404.
ONE_ROW = f"SELECT {CALLER}, (SELECT row_to_json(answered)::text FROM answered)"
MANY_ROWS = f"SELECT {CALLER}, (SELECT coalesce(json_agg(answered), '[]')::text FROM answered)"


@dataclass(frozen=True)
class Call:
    """`entry` and `answer` take parameters as `%(name)s`."""

    entry: str
    answer: str


CALLS = {
    "get_patient": Call(
        ENTER_TO_READ,
        f"""
WITH answered AS (SELECT {PATIENT} FROM patients_patient WHERE {OWNED} AND id = %(id)s),
{access_log("patient.retrieve", found=FOUND)}
{ONE_ROW}""",
    ),
    "list_patients": Call(
        ENTER_TO_READ,
        f"""
WITH answered AS (
    SELECT {PATIENT} FROM patients_patient WHERE {OWNED} AND id < %(before)s ORDER BY id DESC LIMIT {LIMIT}
),
{access_log("patient.list")}
{MANY_ROWS}""",
    ),
    "create_patient": Call(
        ENTER_TO_WRITE,
        f"""
WITH answered AS (
    INSERT INTO patients_patient (name, gender, birth_year, identifier, identifiers, phone, alternate_phone, email,
        address, language, contacts, medical_history, version, created_by_id, created_at, updated_at)
    SELECT b.name, coalesce(b.gender, 'U'), extract(year FROM current_date)::int - b.age,
        coalesce(b.identifier, ''), '[]', coalesce(b.phone, ''), '', coalesce(b.email, ''), coalesce(b.address, ''),
        '', '[]', '', 1,
        {CALLER}, now(), now()
    FROM json_to_record(%(body)s) AS b (name text, gender text, age int, identifier text, phone text, email text,
        address text)
    WHERE {CALLER} IS NOT NULL
    RETURNING {PATIENT}
)
{ONE_ROW}""",
    ),
    "change_patient": Call(
        ENTER_TO_WRITE,
        f"""
WITH answered AS (
    UPDATE patients_patient SET address = coalesce(%(body)s::json ->> 'address', address)
    WHERE {OWNED} AND id = %(id)s
    RETURNING {PATIENT}
),
{access_log("patient.partial_update", found=FOUND)}
{ONE_ROW}""",
    ),
    "list_doctors_of_patient": Call(
        ENTER_TO_READ,
        f"""
WITH patient AS (SELECT id FROM patients_patient WHERE {OWNED} AND id = %(id)s),
answered AS (
    SELECT {DOCTOR}, m.id AS mapping, m.patient_id
    FROM patient p JOIN mappings_mapping m ON m.patient_id = p.id JOIN doctors_doctor d ON d.id = m.doctor_id
    WHERE m.created_by_id = {CALLER} AND m.ended_at IS NULL ORDER BY m.id DESC LIMIT 100
),
{access_log("mapping.doctors", key="patient_id", found="EXISTS (SELECT FROM patient)")}
SELECT {CALLER}, CASE WHEN EXISTS (SELECT FROM patient)
    THEN (SELECT coalesce(json_agg(to_jsonb(answered) - 'patient_id'), '[]')::text FROM answered) END""",
    ),
    "list_doctors": Call(
        ENTER_ANONYMOUSLY,
        f"""
SELECT 0, coalesce(json_agg(page), '[]')::text
FROM (SELECT {DOCTOR} FROM doctors_doctor d WHERE deleted_at IS NULL ORDER BY id DESC LIMIT {LIMIT}) AS page""",
    ),
}
# Session settings for statements that are planned once a session and for all callers.
PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan"}
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def numbered(sql: str) -> tuple[str, list[str]]:
    """The statement with PostgreSQL's own placeholders, $1 and so on, and the name of each."""
    names = list(dict.fromkeys(PLACEHOLDER.findall(sql)))
    return PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1}", sql), names


def write_json(path: Path) -> None:
    """The calls for the references that are not written in Python: by name, each statement as `numbered` returns it."""
    calls = {name: {"entry": numbered(call.entry), "answer": numbered(call.answer)} for name, call in CALLS.items()}
    path.write_text(json.dumps({"role": ROLE, "settings": PLANNED_ONCE, "calls": calls}), encoding="utf-8")
