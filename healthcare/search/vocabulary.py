"""The SQL of the function that looks into an index's vocabulary: what is asked for, and which words are like it."""

from dataclasses import asdict

from healthcare.rls import CALLER
from healthcare.search.index import Index

# What is asked for, as terms: `place` 0 is for the whole text, 1 and on for one of its `words` each, whose likenesses
# in the vocabulary have the ranks 0 (equal), 1 (it begins so) and 2 (similar). Nothing for the words as soon as one of
# them is like none. It reads with its owner's rights, because similarity leaks what it compares and PostgreSQL keeps
# such a comparison behind row-level security, away from every index; so it asks itself who the caller is.
NEAR = """
CREATE OR REPLACE FUNCTION {words}_near(asked text) RETURNS TABLE (place int, rank int, term text, words int)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = {path} AS $$
DECLARE
    caller bigint := {caller};
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
            SELECT DISTINCT 1, longer.term FROM {terms} longer
            WHERE length(digits) >= 7 AND longer.owner = caller AND longer.hidden IN (true, false)
            AND longer.term > 'tel:' || digits AND longer.term < 'tel:' || digits || ':' LIMIT 50
        )
    ) AS whole(rank, term) WHERE EXISTS (
        SELECT FROM {terms} known
        WHERE known.owner = caller AND known.hidden IN (true, false) AND known.term = whole.term
    );
    FOR number IN 1..cardinality(parts) LOOP
        before := coalesce(cardinality(terms), 0);
        {likenesses}
        IF coalesce(cardinality(terms), 0) = before THEN
            RETURN;
        END IF;
    END LOOP;
    RETURN QUERY SELECT row.place, min(row.rank), row.term, cardinality(parts)
    FROM unnest(places, ranks, terms) AS row(place, rank, term) GROUP BY row.place, row.term;
END $$;
"""
# A word begins as asked: of the first 2,000 in the alphabet the shortest, so that a single letter costs no more.
BEGINS = """
SELECT places || array_agg(number), ranks || array_agg(found.rank), terms || array_agg(found.word)
INTO places, ranks, terms FROM (
    (SELECT DISTINCT 0 AS rank, known.word FROM {words} known WHERE known.owner = caller AND known.word = parts[number])
    UNION ALL
    (SELECT 1, begun.word FROM (
        SELECT known.word FROM {words} known WHERE known.owner = caller
        AND known.word > parts[number] AND known.word < parts[number] || U&'\\+10FFFF' ORDER BY known.word LIMIT 2000
    ) begun GROUP BY begun.word ORDER BY length(begun.word), begun.word
        LIMIT CASE cardinality(parts) WHEN 1 THEN 200 ELSE 48 END)
) found;
"""
# First the words that one edit makes equal: a letter less or two swapped, which are looked up as they are, or a letter
# more or other, of the words that share trigrams. Then the most similar ones.
SIMILAR = """
IF length(parts[number]) > 2 THEN
    SELECT array_agg(left(part, at) || substr(part, at + 2))
        || array_agg(left(part, at) || substr(part, at + 2, 1) || substr(part, at + 1, 1) || substr(part, at + 3)),
        array_agg(left(part, at) || '_' || substr(part, at + 1))
        || array_agg(left(part, at) || '_' || substr(part, at + 2))
    INTO shorter, patterns FROM (SELECT parts[number]) asked(part), generate_series(0, length(part)) at;
    PERFORM show_limit();  -- which loads the library, without which nobody may set this
    -- Of the four trigrams of three letters one alone, such as the first letter, is not enough to look at a word.
    PERFORM set_config(
        'pg_trgm.similarity_threshold', CASE length(parts[number]) WHEN 3 THEN '0.26' ELSE '{loose}' END, true);
    SELECT places || array_agg(number), ranks || array_agg(2), terms || array_agg(found.word)
    INTO places, ranks, terms FROM (
        SELECT like_it.word FROM (
            SELECT known.word, true AS one_edit FROM {words} known
            WHERE known.owner = caller AND known.word = ANY (shorter)
            UNION SELECT known.word, known.word LIKE ANY (patterns) FROM {words} known
            WHERE known.owner = caller AND known.word % parts[number]
        ) like_it
        WHERE one_edit OR similarity(like_it.word, parts[number]) >= {similar} GROUP BY like_it.word
        ORDER BY bool_or(one_edit) DESC, similarity(like_it.word, parts[number]) DESC, like_it.word LIMIT 12
    ) found;
END IF;
"""
LOOSE, SIMILAR_ENOUGH = 0.25, 0.35  # trigram similarity: of what one edit makes equal, and of the rest


def near(index: Index, path: str, *, similar: bool) -> str:
    """Creates the function that reads the vocabulary, or replaces it; it knows similarity where pg_trgm is there."""
    likenesses = (BEGINS + (SIMILAR if similar else "")).format(words=index.words, similar=SIMILAR_ENOUGH, loose=LOOSE)
    caller = CALLER if index.owner else "0"
    return NEAR.format(**asdict(index) | {"path": path, "caller": caller, "likenesses": likenesses})


def drop(index: Index) -> str:
    return f"DROP FUNCTION {index.words}_near(text);"
