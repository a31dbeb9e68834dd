from django.db import migrations

from healthcare.migration_operations import CreateDatabaseObject
from healthcare.rls.operations import RowSecurity

# The planner must not expect to meet one owner's rows by chance, however few owners there are yet. With two owners in
# its statistics it would read the rows of both, newest first, until a page is full. Hence n_distinct.

# A patient is merged into another patient of the same owner. SECURITY DEFINER: a policy that queries its own table with
# the caller's rights recurses without end.
IS_OWN_PATIENT = """
CREATE FUNCTION is_own_patient(patient bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM patients_patient
        WHERE id = patient AND created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
    );
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("patients", "0001_initial"), ("audit", "0002_row_level_security"), ("rls", "0001_role"), ("search", "0001_initial")]
    operations = [
        migrations.RunSQL(IS_OWN_PATIENT, "DROP FUNCTION is_own_patient"),
        RowSecurity(
            "Patient",
            """
            ALTER TABLE patients_patient ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patient TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint))
                WITH CHECK (
                    created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
                    AND (merged_into_id IS NULL OR is_own_patient(merged_into_id))
                );
            GRANT SELECT, INSERT, UPDATE ON patients_patient TO healthcare_api;
            ALTER TABLE patients_patient ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "PatientEvent",
            """
            ALTER TABLE patients_patientevent ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientevent FOR SELECT TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON patients_patientevent TO healthcare_api;
            ALTER TABLE patients_patientevent ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "PatientMerge",
            """
            ALTER TABLE patients_patientmerge ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientmerge TO healthcare_api
                USING (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint))
                WITH CHECK (
                    created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint)
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = survivor_id)
                    AND EXISTS (SELECT FROM patients_patient p WHERE p.id = duplicate_id)
                );
            GRANT SELECT, INSERT, UPDATE ON patients_patientmerge TO healthcare_api;
            ALTER TABLE patients_patientmerge ALTER COLUMN created_by_id SET (n_distinct = 100);
            """,
        ),
        RowSecurity(
            "PatientTerm",
            """
            ALTER TABLE patients_patientterm ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientterm FOR SELECT TO healthcare_api
                USING (owner = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON patients_patientterm TO healthcare_api;
            """,
        ),
        RowSecurity(
            "PatientWord",
            """
            ALTER TABLE patients_patientword ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own ON patients_patientword FOR SELECT TO healthcare_api
                USING (owner = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            GRANT SELECT ON patients_patientword TO healthcare_api;
            """,
        ),
        # Database objects
        CreateDatabaseObject("audit_patientaccess", """
CREATE OR REPLACE VIEW audit_patientaccess WITH (security_barrier) AS
SELECT access.id, patient.id AS patient_id, access.at, access.actor, access.action, access.basis, access.request_id,
    access.outcome
FROM patients_patient patient, LATERAL (
    SELECT * FROM audit_accesslog WHERE patient_ids @> ARRAY[patient.id] ORDER BY id DESC
) access
WHERE patient.created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint);
GRANT SELECT ON audit_patientaccess TO healthcare_api;
""", """
DROP VIEW audit_patientaccess;
"""),
        CreateDatabaseObject("patients_patientword_near", r"""
DO $create$
DECLARE
    schemas CONSTANT text[] := ARRAY(
        SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
        WHERE extname IN ('pg_trgm', 'btree_gin', 'unaccent') AND nspname NOT IN ('pg_catalog', 'public')
        GROUP BY nspname);
    similarity CONSTANT boolean := (SELECT count(*) = 2 FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin'));
BEGIN
    EXECUTE replace(replace($function$

CREATE OR REPLACE FUNCTION patients_patientword_near(asked text) RETURNS TABLE (place int, rank int, term text, words int)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = <path> AS $$
DECLARE
    caller bigint := (SELECT nullif(current_setting('app.user_id', true), '')::bigint);
    parts text[] := search_asked(asked);
    digits text := CASE WHEN asked ~ '^[^[:alpha:]]*((x|ext)[^[:alpha:]]*)?$' THEN search_digits(asked) ELSE '' END;
    places int[]; ranks int[]; terms text[]; shorter text[]; patterns text[]; before int;
BEGIN
    RETURN QUERY SELECT 0, whole.rank, whole.term, cardinality(parts) FROM (
        SELECT 0, 'id:' || search_key(asked) WHERE cardinality(parts) > 0
        UNION ALL SELECT 0, 'mail:' || search_fold(asked) WHERE asked LIKE '%@%'
        UNION ALL SELECT 1, search_key(asked) WHERE cardinality(parts) BETWEEN 2 AND 3  -- O Brien, Mary Ann
        UNION ALL SELECT 0, 'tel:' || digits WHERE length(digits) >= 3
        UNION ALL SELECT 1, 'tel:' || left(digits, length) FROM generate_series(7, least(length(digits) - 1, 20)) length
        UNION ALL (
            SELECT DISTINCT 1, longer.term FROM patients_patientterm longer
            WHERE length(digits) >= 7 AND longer.owner = caller AND longer.hidden IN (true, false)
            AND longer.term > 'tel:' || digits AND longer.term < 'tel:' || digits || ':' LIMIT 50
        )
    ) AS whole(rank, term) WHERE EXISTS (
        SELECT FROM patients_patientterm known
        WHERE known.owner = caller AND known.hidden IN (true, false) AND known.term = whole.term
    );
    FOR number IN 1..cardinality(parts) LOOP
        before := coalesce(cardinality(terms), 0);
        
SELECT places || array_agg(number), ranks || array_agg(found.rank), terms || array_agg(found.word)
INTO places, ranks, terms FROM (
    (SELECT DISTINCT 0 AS rank, known.word FROM patients_patientword known WHERE known.owner = caller AND known.word = parts[number])
    UNION ALL
    (SELECT 1, begun.word FROM (
        SELECT known.word FROM patients_patientword known WHERE known.owner = caller
        AND known.word > parts[number] AND known.word < parts[number] || U&'\+10FFFF' ORDER BY known.word LIMIT 2000
    ) begun GROUP BY begun.word ORDER BY length(begun.word), begun.word
        LIMIT CASE cardinality(parts) WHEN 1 THEN 200 ELSE 48 END)
) found;

IF <similarity> AND length(parts[number]) > 2 THEN
    SELECT array_agg(left(part, at) || substr(part, at + 2))
        || array_agg(left(part, at) || substr(part, at + 2, 1) || substr(part, at + 1, 1) || substr(part, at + 3)),
        array_agg(left(part, at) || '_' || substr(part, at + 1))
        || array_agg(left(part, at) || '_' || substr(part, at + 2))
    INTO shorter, patterns FROM (SELECT parts[number]) asked(part), generate_series(0, length(part)) at;
    PERFORM show_limit();  -- loads the library, which defines the setting below
    -- A word of three letters has four trigrams; sharing one of them, such as the first letter, is too little.
    PERFORM set_config(
        'pg_trgm.similarity_threshold', CASE length(parts[number]) WHEN 3 THEN '0.26' ELSE '0.25' END, true);
    SELECT places || array_agg(number), ranks || array_agg(2), terms || array_agg(found.word)
    INTO places, ranks, terms FROM (
        SELECT like_it.word FROM (
            SELECT known.word, true AS one_edit FROM patients_patientword known
            WHERE known.owner = caller AND known.word = ANY (shorter)
            UNION SELECT known.word, known.word LIKE ANY (patterns) FROM patients_patientword known
            WHERE known.owner = caller AND known.word % parts[number]
        ) like_it
        WHERE one_edit OR similarity(like_it.word, parts[number]) >= 0.35 GROUP BY like_it.word
        ORDER BY bool_or(one_edit) DESC, similarity(like_it.word, parts[number]) DESC, like_it.word LIMIT 12
    ) found;
END IF;

        IF coalesce(cardinality(terms), 0) = before THEN
            RETURN;
        END IF;
    END LOOP;
    RETURN QUERY SELECT row.place, min(row.rank), row.term, cardinality(parts)
    FROM unnest(places, ranks, terms) AS row(place, rank, term) GROUP BY row.place, row.term;
END $$;

    $function$, '<path>', array_to_string(ARRAY['pg_catalog', 'public'] || schemas || ARRAY['pg_temp'], ', ')),
        '<similarity>', similarity::text);
END $create$;

DO $$
DECLARE
    trigram_schema text;
BEGIN
    SELECT quote_ident(nspname) INTO trigram_schema
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_trgm';
    IF trigram_schema IS NOT NULL AND EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gin') THEN
        EXECUTE format('CREATE INDEX IF NOT EXISTS patients_patientword_similar ON patients_patientword USING gin (owner, word %s.gin_trgm_ops) '
            'WITH (fastupdate = off)', trigram_schema);
    END IF;
END $$;
""", """
DROP INDEX IF EXISTS patients_patientword_similar;
DROP FUNCTION patients_patientword_near(text);
"""),
    ]
