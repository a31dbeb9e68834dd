"""The statements that find patients on record who may be the same as the patients of a batch: see `likely_in_batch`."""

SHORTEST_PHONE = 3  # digits
SHORTEST_BEGINNING, LONGEST_BEGINNING = 7, 20  # digits of a phone, from the last one on, that a longer one begins with

OWN_TERMS = "owner = %(owner)s AND NOT hidden"
OWN_PATIENTS = "created_by_id = %(owner)s AND deleted_at IS NULL"
# In the order of the index `patient_by_birth`: see `plans_without_sorting`.
BORN_ALIKE = f"""
SELECT 'date', asked.place, found.id FROM unnest(%(dates)s::date[]) WITH ORDINALITY AS asked(day, place), LATERAL (
    SELECT id FROM patients_patient WHERE {OWN_PATIENTS}
    AND birth_year = extract(year FROM asked.day)::int AND birth_date BETWEEN asked.day AND asked.day
    ORDER BY birth_date LIMIT %(most)s
) found
UNION ALL
SELECT 'undated', asked.place, found.id FROM unnest(%(years)s::int[]) WITH ORDINALITY AS asked(year, place), LATERAL (
    SELECT id FROM patients_patient WHERE {OWN_PATIENTS}
    AND birth_year = asked.year AND birth_date IS NULL ORDER BY birth_date LIMIT %(most)s
) found
UNION ALL
SELECT 'dated', asked.place, found.id FROM unnest(%(dateless)s::int[]) WITH ORDINALITY AS asked(year, place), LATERAL (
    SELECT id FROM patients_patient WHERE {OWN_PATIENTS}
    AND birth_year = asked.year AND birth_date IS NOT NULL ORDER BY birth_date LIMIT %(most)s
) found
"""  # noqa: S608
PHONE_DIGITS = "SELECT phone, search_digits(phone) FROM unnest(%(phones)s::text[]) phone"
SAME_PHONE = f"""
SELECT asked.place, found.record
FROM unnest(%(texts)s::text[], %(digits)s::text[]) WITH ORDINALITY AS asked(text, digits, place), LATERAL (
    SELECT 'id:' || search_key(text)
    UNION ALL SELECT 'tel:' || digits WHERE length(digits) >= {SHORTEST_PHONE}
    UNION ALL SELECT 'tel:' || left(digits, length)
        FROM generate_series({SHORTEST_BEGINNING}, least(length(digits) - 1, {LONGEST_BEGINNING})) length
    UNION ALL (
        SELECT DISTINCT term FROM patients_patientterm
        WHERE length(digits) >= {SHORTEST_BEGINNING} AND {OWN_TERMS}
        AND term > 'tel:' || digits AND term < 'tel:' || digits || ':' LIMIT 50
    )
    OFFSET 0
) AS wanted(term), LATERAL (
    SELECT record FROM patients_patientterm term WHERE {OWN_TERMS} AND term.term = wanted.term
    ORDER BY record DESC LIMIT %(maximum)s
) found
"""  # noqa: S608
SAME_EMAIL = f"""
SELECT asked.place, found.record FROM unnest(%(texts)s::text[]) WITH ORDINALITY AS asked(text, place), LATERAL (
    SELECT record FROM patients_patientterm WHERE {OWN_TERMS} AND term = 'mail:' || search_fold(asked.text)
    ORDER BY record DESC LIMIT %(maximum)s
) found
"""  # noqa: S608
# Another system may have given the same value to very many patients.
SAME_NUMBER = f"""
SELECT asked.place, found.id
FROM unnest(%(systems)s::text[], %(values)s::text[]) WITH ORDINALITY AS asked(system, value, place), LATERAL (
    SELECT patient.id FROM patients_patientterm term JOIN patients_patient patient ON patient.id = term.record
    WHERE {OWN_TERMS} AND term.term = 'id:' || search_key(asked.value) AND patient.deleted_at IS NULL AND EXISTS (
        SELECT FROM (
            SELECT '', patient.identifier UNION ALL
            SELECT CASE WHEN system <> %(old)s THEN system ELSE '' END, value
            FROM jsonb_to_recordset(patient.identifiers) pair(system text, value text)
        ) had(system, value)
        WHERE had.system = asked.system AND search_key(had.value) = search_key(asked.value)
    )
    ORDER BY patient.id DESC LIMIT %(maximum)s
) found
"""  # noqa: S608
UNKNOWN_BIRTH = f"SELECT EXISTS (SELECT FROM patients_patient WHERE {OWN_PATIENTS} AND birth_year IS NULL)"  # noqa: S608
# `others` are the words that a record must have beside the term; `born` asks for records of unknown birth alone.
RECORDS_OF_EQUAL_NAME = f"""
SELECT asked.place, found.record
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked(place int, term text, others text[], born boolean), LATERAL (
    SELECT record FROM patients_patientterm name WHERE {OWN_TERMS} AND name.term = asked.term
    AND (NOT asked.born OR EXISTS (
        SELECT FROM patients_patient patient WHERE patient.id = name.record AND patient.birth_year IS NULL))
    AND NOT EXISTS (SELECT FROM unnest(asked.others) other WHERE NOT EXISTS (
        SELECT FROM patients_patientterm has WHERE has.record = name.record AND has.term = other))
    ORDER BY record DESC LIMIT %(maximum)s
) found
"""  # noqa: S608
WORDS = "SELECT DISTINCT word FROM patients_patientword WHERE owner = %(owner)s"
TERMS_ASKED = """
SELECT unnest(asked.terms) UNION ALL
SELECT least(one COLLATE "C", two) || ' ' || greatest(one COLLATE "C", two)
FROM unnest(asked.ones) one, unnest(asked.twos) two WHERE one <> two
"""
BORN_AS_ASKED = """EXISTS (
    SELECT FROM patients_patient patient WHERE patient.id = name.record AND birth_year = asked.year
    AND (asked.day IS NULL OR birth_date IS NULL OR birth_date = asked.day) OFFSET 0)
"""
# One scan of the index for all terms of a name; an array of the terms costs half as much as a join with each of them.
# The join alone can stop at the limit of each term, so it goes on where very many have the name and the birth, such as
# `Unknown`, born 1900-01-01.
SIMILAR_NAMES = f"""
SELECT DISTINCT asked.place, found.record
FROM jsonb_to_recordset(%(asked)s::jsonb)
    AS asked(place int, day date, year int, terms text[], ones text[], twos text[]),
LATERAL (
    WITH scanned AS MATERIALIZED (
        SELECT term, record FROM patients_patientterm name
        WHERE {OWN_TERMS} AND name.term = ANY (ARRAY({TERMS_ASKED})) AND {BORN_AS_ASKED} LIMIT %(scanned)s
    )
    SELECT record FROM (
        SELECT record, row_number() OVER (PARTITION BY term ORDER BY record DESC) AS number FROM scanned
    ) AS numbered WHERE number <= %(maximum)s AND (SELECT count(*) FROM scanned) < %(scanned)s
    UNION ALL
    SELECT last.record FROM ({TERMS_ASKED}) AS wanted(term), LATERAL (
        SELECT record FROM patients_patientterm name WHERE {OWN_TERMS} AND name.term = wanted.term AND {BORN_AS_ASKED}
        ORDER BY record DESC LIMIT %(maximum)s
    ) AS last WHERE (SELECT count(*) FROM scanned) = %(scanned)s
) AS found
"""  # noqa: S608
TERMS = f"""
SELECT record, array_agg(term) FROM patients_patientterm
WHERE record = ANY(%(records)s) AND {OWN_TERMS} AND (strpos(term, ':') = 0 OR starts_with(term, 'long:'))
GROUP BY record
"""  # noqa: S608
