"""The rows that every server answers from: a caller with 10,000 patients among 1,000,000 of one other owner.

They are inserted by SQL into the product's own tables with all triggers enabled, so history and search terms exist for
each. The caller's patients are scattered among the others: a page of twenty rows is on as many pages of the disk.
"""

from dataclasses import dataclass
from urllib.parse import quote

from django.db import connection, transaction

from accounts.models import LoginSession, User
from accounts.tokens import issue_token_pair

PASSWORD = "StrongPass123"  # noqa: S105  (of users that exist in the benchmark's database only)
OWN = 10_000  # patients of the caller
FOREIGN = 1  # a patient who is not the caller's
OTHERS, FEW_OTHERS = 1_000_000, 20_000  # patients of the other owner: in a full run, in a quick one
DOCTOR_COUNT = 2000
DOCTORS_EACH = 3  # of every tenth patient of an owner
PAGE = 20
DEPTH = OWN - PAGE

LOGINS = 100  # users who only log in, user1 to user100
USERS = """
INSERT INTO accounts_user (id, password, is_superuser, name, email, username, is_active, is_staff, created_at)
VALUES (%s, %s, false, %s, %s, %s, true, false, now())
"""
DOCTOR_ROWS = """
INSERT INTO doctors_doctor (id, name, specialization, license_number, phone, email, hospital, experience_since,
    created_by_id, created_at, updated_at, version)
SELECT i, 'Dr. ' || chr(65 + i %% 26) || 'eera ' || chr(65 + i / 26 %% 26) || 'ao ' || i,
    (ARRAY['Cardiology', 'Neurology', 'Oncology', 'Paediatrics'])[1 + i %% 4], 'L-' || i, '+91 80 ' || 1000000 + i,
    'doctor' || i || '@example.org', (ARRAY['City Hospital', 'St Mary', 'Lakeside'])[1 + i %% 3],
    extract(year FROM current_date) - i %% 40, 1, now(), now(), 1
FROM generate_series(1, %(doctors)s) AS i
"""
# Some 1,000 given names and 5,000 surnames; a few of them are common.
PATIENT_ROWS = """
INSERT INTO patients_patient (id, name, gender, birth_date, birth_year, identifier, identifiers, phone, alternate_phone,
    email, address, language, contacts, medical_history, created_by_id, created_at, updated_at, version)
SELECT i,
    (ARRAY['A','Be','Chi','Da','E','Fa','Gi','Ha','I','Jo','Ka','Li','Ma','Ne','O','Pri','Ra','Sa','To','Vi'])
        [1 + g %% 20]
    || (ARRAY['na','li','ro','mi','sha','vi','de','ku','ran','yo'])[1 + g / 20 %% 10]
    || (ARRAY['','n','ra','th','s'])[1 + g / 200] || ' ' ||
    (ARRAY['Ab','Ban','Cor','Dh','Er','Fer','Gup','Hus','Iy','Jos','Kap','Lak','Men','Nai','Ort','Pat','Red','Sing','Tiw',
        'Ver'])[1 + s %% 20]
    || (ARRAY['a','e','i','o','u','ar','en','is','on','ul','am','er','in','oy','ush','at','el','ir','od','un','aw','ey',
        'ik','op','ut'])[1 + s / 20 %% 25]
    || (ARRAY['','man','son','ta','wal','kar','ia','ez','li','ra'])[1 + s / 500],
    (ARRAY['F', 'M', 'O', 'U'])[1 + i %% 4],
    CASE WHEN i %% 2 = 0 THEN date '1930-01-01' + (i * 7919 %% 34000)::int END,
    CASE WHEN i %% 2 = 0 THEN extract(year FROM date '1930-01-01' + (i * 7919 %% 34000)::int) ELSE 1930 + i %% 90 END,
    'MRN-' || i, '[]', '+91 98' || lpad((i * 104729 %% 100000000)::text, 8, '0'), '', 'patient' || i || '@example.org',
    i || ' Residency Road, Bengaluru', '', '[]', '', CASE WHEN i %% %(stride)s = 0 THEN 1 ELSE 2 END, now(), now(), 1
FROM (SELECT i::bigint, floor(1000 * power(random(), 3))::int AS g, floor(5000 * power(random(), 2))::int AS s
    FROM generate_series(1, %(patients)s) AS i) AS drawn
"""
MAPPING_ROWS = """
INSERT INTO mappings_mapping (patient_id, doctor_id, role, is_primary, reason, notes, started_at, created_by_id,
    created_at, updated_at, version)
SELECT p.id, 1 + (p.id + n * 7) %% %(doctors)s, '', n = 0, '', '', now(), p.created_by_id, now(), now(), 1
FROM patients_patient p, generate_series(0, %(each)s - 1) AS n
WHERE (p.id / %(stride)s) %% 10 = 0
"""
SEQUENCES = ("accounts_user", "doctors_doctor", "patients_patient")


@dataclass(frozen=True)
class Caller:
    """A user whose requests are measured. `after` is the id that the last page comes before. `samples`, spread over
    all rows of the user, are ids of "patients" and of those who are "treated" by a doctor, "names" of patients, which
    "quoted names" has for URLs, "unknown_names" that no patient has, and user names for "logins"."""

    token: str
    revoked_token: str
    samples: dict[str, list[str]]
    after: int


def stride(others: int) -> int:
    """One patient in so many belongs to the caller."""
    return others // OWN + 1


def fill_database(others: int) -> None:
    """Inserts the caller's patients and so many of the other owner into an empty database of the product."""
    numbers = {"doctors": DOCTOR_COUNT, "stride": stride(others), "patients": OWN + others, "each": DOCTORS_EACH}
    with transaction.atomic(), connection.cursor() as cursor:
        user = User()
        user.set_password(PASSWORD)
        for key, name in enumerate(["caller", "large", *(f"user{n}" for n in range(1, LOGINS + 1))], 1):
            cursor.execute(USERS, [key, user.password, name.title(), f"{name}@example.org", name])
        cursor.execute("SELECT setseed(0.5)")
        for statement in (DOCTOR_ROWS, PATIENT_ROWS, MAPPING_ROWS):
            cursor.execute(statement, numbers)
        for table in SEQUENCES:
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


SAMPLE = """
SELECT id, name FROM (
    SELECT id, name, row_number() OVER (ORDER BY id) AS n, count(*) OVER () AS total
    FROM patients_patient WHERE created_by_id = %s AND (%s = 1 OR id / %s %% 10 = 0)
) AS own WHERE n %% (total / 500) = 0
"""


def log_in(username: str, others: int) -> Caller:
    """Starts a login session of this user and chooses the samples."""
    user = User.objects.get(username=username)
    live, revoked = (LoginSession.objects.start(user, "benchmarks", "127.0.0.1") for _ in range(2))
    LoginSession.objects.filter(pk=revoked.pk).revoke()
    with connection.cursor() as cursor:
        cursor.execute(SAMPLE, [user.pk, 1, 1])
        patients = cursor.fetchall()
        cursor.execute(SAMPLE, [user.pk, 10, stride(others)])
        treated = cursor.fetchall()
        cursor.execute(
            "SELECT id FROM patients_patient WHERE created_by_id = %s ORDER BY id OFFSET %s LIMIT 1", [user.pk, PAGE]
        )
        after = cursor.fetchone()[0]
    samples = {
        "patients": [str(key) for key, _ in patients],
        "treated": [str(key) for key, _ in treated],
        "names": [name for _, name in patients],
        "quoted names": [quote(name) for _, name in patients],
        "unknown_names": [quote(f"Qwoxulf Zzyxvent{chr(97 + n // 26)}{chr(97 + n % 26)}") for n in range(200)],
        "logins": [f"user{n}" for n in range(1, LOGINS + 1)],
    }
    return Caller(issue_token_pair(live)["access"], issue_token_pair(revoked)["access"], samples, after)
