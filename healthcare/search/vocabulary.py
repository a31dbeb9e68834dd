"""The function that looks a query up in an index's vocabulary: which words equal it, begin with it or resemble it."""

from dataclasses import asdict

from healthcare.database_objects import DatabaseObject, declare
from healthcare.rls import OWNER_ID_SQL
from healthcare.search.index import Index

# The query as terms. `place` is 0 for the whole text, and from 1 on one of its `words`; `rank` of a word in the
# vocabulary is 0 if it equals that one, 1 if it begins with it, 2 if it is similar. No rows for the words as soon as
# one of them matches nothing. `place` -1 is the first word again, where names of more than 16 words have it.
#
# SECURITY DEFINER: the operator of similarity is not leakproof, so PostgreSQL would evaluate it after the row-level
# security policies and not use the index. The function compares the owner with the caller itself.
#
# The DO block adapts the function to the extensions: their schemas are on its pinned search path, and it uses
# similarity only where both exist. The GIN index is created in a migration, where the vocabulary is empty;
# `rebuild_search` creates it concurrently.
NEAR = """
DO $create$
DECLARE
    schemas CONSTANT text[] := ARRAY(
        SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
        WHERE extname IN ('pg_trgm', 'btree_gin', 'unaccent') AND nspname NOT IN ('pg_catalog', 'public')
        GROUP BY nspname);
    similarity CONSTANT boolean := (SELECT count(*) = 2 FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin'));
BEGIN
    EXECUTE replace(replace($function$

CREATE OR REPLACE FUNCTION {signature} RETURNS TABLE (place int, rank int, term text, words int)
LANGUAGE plpgsql STABLE {rights}SET search_path = <path> AS $$
DECLARE
    {declared}parts text[] := search_asked(asked);
    digits text := CASE WHEN asked ~* '^[^[:alpha:]]*(tel:)?[^[:alpha:]]*((x|ext)[^[:alpha:]]*)?$'
        THEN search_digits(asked) ELSE '' END;
    places int[]; ranks int[]; terms text[]; shorter text[]; patterns text[]; before int;
BEGIN
    RETURN QUERY SELECT 0, whole.rank, whole.term, cardinality(parts) FROM (
        SELECT 0, 'id:' || search_key(asked) WHERE cardinality(parts) > 0
        UNION ALL SELECT 0, 'mail:' || search_fold(asked) WHERE asked LIKE '%@%'
        UNION ALL SELECT 1, search_key(asked) WHERE cardinality(parts) BETWEEN 2 AND 3  -- O Brien, Mary Ann
        UNION ALL SELECT 0, 'tel:' || digits WHERE length(digits) >= 3
        UNION ALL SELECT 1, 'tel:' || left(digits, length) FROM generate_series(7, least(length(digits) - 1, 20)) length
        UNION ALL (
            SELECT DISTINCT 1, longer.term FROM {terms} longer
            WHERE length(digits) >= 7 AND longer.owner {is_owner} AND longer.hidden IN (true, false)
            AND longer.term > 'tel:' || digits AND longer.term < 'tel:' || digits || ':' LIMIT 50
        )
    ) AS whole(rank, term) WHERE {is_stored};
    FOR number IN 1..cardinality(parts) LOOP
        before := coalesce(cardinality(terms), 0);
        {likenesses}
        IF coalesce(cardinality(terms), 0) = before THEN
            RETURN;
        END IF;
    END LOOP;
    RETURN QUERY SELECT row.place, min(row.rank), row.term, cardinality(parts)
    FROM unnest(places, ranks, terms) AS row(place, rank, term) GROUP BY row.place, row.term;
    IF cardinality(parts) > 1 THEN
        RETURN QUERY SELECT -1, min(row.rank), 'long:' || row.term, cardinality(parts)
        FROM unnest(places, ranks, terms) AS row(place, rank, term) WHERE row.place = 1 AND {is_long} GROUP BY row.term;
    END IF;
END $$;

    $function$, '<path>', array_to_string(ARRAY['pg_catalog', 'public'] || schemas || ARRAY['pg_temp'], ', ')),
        '<similarity>', similarity::text);
END $create$;
"""
IS_STORED = """EXISTS (
        SELECT FROM {terms} known
        WHERE known.owner = caller AND known.hidden IN (true, false) AND known.term = whole.term
    )"""
IS_LONG = """EXISTS (
            SELECT FROM {terms} long
            WHERE long.owner = caller AND long.hidden IN (true, false) AND long.term = 'long:' || row.term
        )"""
# Words that begin with the one asked for: the shortest of the first 2,000 in order, so that the cost of a single letter
# is bounded.
BEGINS = """
SELECT places || array_agg(number), ranks || array_agg(found.rank), terms || array_agg(found.word)
INTO places, ranks, terms FROM (
    (SELECT DISTINCT 0 AS rank, known.word FROM {words} known WHERE {of_owner}known.word = parts[number])
    UNION ALL
    (SELECT 1, begun.word FROM (
        SELECT known.word FROM {words} known WHERE {of_owner_line}known.word > parts[number] \
AND known.word < parts[number] || U&'\\+10FFFF' ORDER BY known.word LIMIT 2000
    ) begun GROUP BY begun.word ORDER BY length(begun.word), begun.word
        LIMIT CASE cardinality(parts) WHEN 1 THEN {most_of_one} ELSE {most_of_several} END)
) found;
"""
# First the words one edit away: a letter removed or two swapped are looked up as they are; a letter added or replaced
# is found among words that share trigrams. Then the most similar ones. `%` is similarity above a threshold.
SIMILAR = """
IF <similarity> AND length(parts[number]) > 2 THEN
    SELECT array_agg(left(part, at) || substr(part, at + 2))
        || array_agg(left(part, at) || substr(part, at + 2, 1) || substr(part, at + 1, 1) || substr(part, at + 3)),
        array_agg(left(part, at) || '_' || substr(part, at + 1))
        || array_agg(left(part, at) || '_' || substr(part, at + 2))
    INTO shorter, patterns FROM (SELECT parts[number]) asked(part), generate_series(0, length(part)) at;
    PERFORM show_limit();  -- loads the library, which defines the setting below
    -- A word of three letters has four trigrams; sharing one of them, such as the first letter, is too little.
    PERFORM set_config(
        'pg_trgm.similarity_threshold', CASE length(parts[number]) WHEN 3 THEN '0.26' ELSE '{loose}' END, true);
    SELECT places || array_agg(number), ranks || array_agg(2), terms || array_agg(found.word)
    INTO places, ranks, terms FROM (
        SELECT like_it.word FROM (
            SELECT known.word, true AS one_edit FROM {words} known
            WHERE {of_owner}known.word = ANY (shorter)
            UNION SELECT known.word, known.word LIKE ANY (patterns) FROM {words} known
            WHERE {of_owner}known.word % parts[number]
        ) like_it
        WHERE one_edit OR similarity(like_it.word, parts[number]) >= {similar} GROUP BY like_it.word
        ORDER BY bool_or(one_edit) DESC, similarity(like_it.word, parts[number]) DESC, like_it.word LIMIT 12
    ) found;
END IF;
"""
LOOSE, SIMILAR_ENOUGH = 0.25, 0.35  # trigram similarity: of a word one edit away, and of any other

CREATE_SIMILARITY_INDEX = """
DO $$
DECLARE
    trigram_schema text;
BEGIN
    SELECT quote_ident(nspname) INTO trigram_schema
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_trgm';
    IF trigram_schema IS NOT NULL AND EXISTS (SELECT FROM pg_extension WHERE extname = 'btree_gin') THEN
        EXECUTE format('CREATE INDEX IF NOT EXISTS {words}_similar ON {words} USING gin (owner, word %s.gin_trgm_ops) '
            'WITH (fastupdate = off)', trigram_schema);
    END IF;
END $$;
"""
DROP = """
DROP INDEX IF EXISTS {words}_similar;
DROP FUNCTION {words}_near(text);
"""


# Of the words of one owner that begin with the one asked for, where it is the only one, and where there are several.
MOST_BEGINNINGS = {"most_of_one": 200, "most_of_several": 48}


def create_near(index: Index) -> str:
    """SQL that creates or replaces the function `<words>_near`."""
    owner = OWNER_ID_SQL if index.owner else "0"
    # The function calls the owner `caller`: another name for its variable would take a migration.
    return compose(index, f"{index.words}_near(asked text)", "SECURITY DEFINER ", f"caller bigint := {owner};\n    ")


def compose(index: Index, signature: str, rights: str, declared: str) -> str:
    """SQL for a version of the function that looks among the words of the owner `caller`."""
    of_owner = "known.owner = caller AND "
    words = {"words": index.words, "of_owner": of_owner, "of_owner_line": of_owner.replace(" AND ", "\n        AND ")}
    likenesses = BEGINS.format(**words, **MOST_BEGINNINGS)
    likenesses += SIMILAR.format(**words, similar=SIMILAR_ENOUGH, loose=LOOSE)
    frame = {"signature": signature, "rights": rights, "declared": declared, "likenesses": likenesses}
    stored, long = IS_STORED.format(terms=index.terms), IS_LONG.format(terms=index.terms)
    return NEAR.format(**asdict(index) | frame | {"is_owner": "= caller", "is_stored": stored, "is_long": long})


def declare_vocabulary(app_label: str, index: Index) -> None:
    create = create_near(index) + CREATE_SIMILARITY_INDEX.format(words=index.words)
    declare(DatabaseObject(app_label, f"{index.words}_near", create, DROP.format(words=index.words)))
