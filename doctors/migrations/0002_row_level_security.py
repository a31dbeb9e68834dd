from django.db import migrations

from healthcare.migration_operations import CreateDatabaseObject
from healthcare.rls.operations import RowSecurity


class Migration(migrations.Migration):
    dependencies = [("doctors", "0001_initial"), ("rls", "0001_role"), ("search", "0001_initial")]
    operations = [
        RowSecurity(
            "Doctor",
            """
            ALTER TABLE doctors_doctor ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctor FOR SELECT TO healthcare_api USING (true);
            CREATE POLICY add ON doctors_doctor FOR INSERT TO healthcare_api
                WITH CHECK (created_by_id = (SELECT nullif(current_setting('app.user_id', true), '')::bigint));
            CREATE POLICY change ON doctors_doctor FOR UPDATE TO healthcare_api
                USING ((SELECT nullif(current_setting('app.user_id', true), '')::bigint) IS NOT NULL);
            GRANT SELECT, INSERT, UPDATE ON doctors_doctor TO healthcare_api;
            """,
        ),
        RowSecurity(
            "DoctorEvent",
            """
            ALTER TABLE doctors_doctorevent ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctorevent FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON doctors_doctorevent TO healthcare_api;
            """,
        ),
        RowSecurity(
            "DoctorTerm",
            """
            ALTER TABLE doctors_doctorterm ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctorterm FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON doctors_doctorterm TO healthcare_api;
            """,
        ),
        RowSecurity(
            "DoctorWord",
            """
            ALTER TABLE doctors_doctorword ENABLE ROW LEVEL SECURITY;
            CREATE POLICY read ON doctors_doctorword FOR SELECT TO healthcare_api USING (true);
            GRANT SELECT ON doctors_doctorword TO healthcare_api;
            """,
        ),
        # Database objects
        CreateDatabaseObject("doctors_doctorword_near", r"""
DO $create$
DECLARE
    schemas CONSTANT text[] := ARRAY(
        SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
        WHERE extname IN ('pg_trgm', 'btree_gin', 'unaccent') AND nspname NOT IN ('pg_catalog', 'public')
        GROUP BY nspname);
    similarity CONSTANT boolean := (SELECT count(*) = 2 FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin'));
BEGIN
    EXECUTE replace(replace($function$

CREATE OR REPLACE FUNCTION doctors_doctorword_near(asked text) RETURNS TABLE (place int, rank int, term text, words int)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = <path> AS $$
DECLARE
    caller bigint := 0;
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
            SELECT DISTINCT 1, longer.term FROM doctors_doctorterm longer
            WHERE length(digits) >= 7 AND longer.owner = caller AND longer.hidden IN (true, false)
            AND longer.term > 'tel:' || digits AND longer.term < 'tel:' || digits || ':' LIMIT 50
        )
    ) AS whole(rank, term) WHERE EXISTS (
        SELECT FROM doctors_doctorterm known
        WHERE known.owner = caller AND known.hidden IN (true, false) AND known.term = whole.term
    );
    FOR number IN 1..cardinality(parts) LOOP
        before := coalesce(cardinality(terms), 0);
        
SELECT places || array_agg(number), ranks || array_agg(found.rank), terms || array_agg(found.word)
INTO places, ranks, terms FROM (
    (SELECT DISTINCT 0 AS rank, known.word FROM doctors_doctorword known WHERE known.owner = caller AND known.word = parts[number])
    UNION ALL
    (SELECT 1, begun.word FROM (
        SELECT known.word FROM doctors_doctorword known WHERE known.owner = caller
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
            SELECT known.word, true AS one_edit FROM doctors_doctorword known
            WHERE known.owner = caller AND known.word = ANY (shorter)
            UNION SELECT known.word, known.word LIKE ANY (patterns) FROM doctors_doctorword known
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
        EXECUTE format('CREATE INDEX IF NOT EXISTS doctors_doctorword_similar ON doctors_doctorword USING gin (owner, word %s.gin_trgm_ops) '
            'WITH (fastupdate = off)', trigram_schema);
    END IF;
END $$;
""", """
DROP INDEX IF EXISTS doctors_doctorword_similar;
DROP FUNCTION doctors_doctorword_near(text);
"""),
    ]
