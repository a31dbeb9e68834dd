"""SQL functions that normalize text for search; the triggers and the queries use the same ones.

Normalization removes case, accents, vowel points and width (Unicode NFKD, then `unaccent`) and apostrophes; other
punctuation separates words. It does not depend on the database's locale, except for `lower`, whose collation is chosen
when the functions are created. ASCII text takes a shortcut with the same result.
"""

from healthcare.characters import ASCII_DIGITS, DIGITS
from healthcare.database_objects import DatabaseObject, declare

# In PostgreSQL's regular expressions, \u0000 is a code point.
FUNCTIONS = r"""
DO $create$
DECLARE
    unaccent text;
    collation_name text;
BEGIN
    SELECT quote_ident(nspname) || '.unaccent' INTO unaccent
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'unaccent';
    -- A collation whose lower() knows every script, whatever the locale of the database.
    SELECT quote_ident(collname) INTO collation_name FROM pg_collation
    WHERE collname IN ('pg_c_utf8', 'und-x-icu') ORDER BY collname LIMIT 1;
    EXECUTE replace(replace($function$

-- Removed: apostrophes; combining marks of Latin, Greek and Cyrillic; points of Hebrew and Arabic with the tatweel;
-- nuktas; invisible characters. Replaced: letters without a decomposition (variants of Arabic and Persian letters, the
-- final sigma, a nasal sign, letters of European languages).
CREATE OR REPLACE FUNCTION search_fold(value text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(value) = length(value) THEN lower(translate(value, '''`', '') COLLATE <collation>)
    ELSE normalize(replace(replace(replace(replace(translate(lower(
        <unaccent>(regexp_replace(normalize(regexp_replace(value, '[''`´′‘’ʼʻ]', '', 'g'), NFKD),
            '[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed'
            '\u093c\u09bc\u0a3c\u1ab0-\u1aff\u1dc0-\u1dff\u00ad\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f'
            '\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]', '', 'g'))
        COLLATE <collation>), 'ٱىةکیےھہςँłøđðħıŧŋ', 'ايهكييههσंloddhitn'),
        'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), NFC) END
$$;

    $function$, '<unaccent>', coalesce(unaccent, '')), '<collation>', coalesce(collation_name, '"default"'));
END $create$;

-- The words of normalized text, each cut after 64 characters.
CREATE OR REPLACE FUNCTION search_split(folded text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF length(folded) <= 64 AND folded ~ '^[a-z0-9 ]*$' THEN
        RETURN array_remove(string_to_array(folded, ' '), '');
    END IF;
    RETURN (
        SELECT coalesce(array_agg(left(word, 64) ORDER BY place), '{}')
        FROM regexp_split_to_table(folded,
            '[\s\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u055a-\u055f\u0589\u05be\u05c0\u05c3'
            '\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f'
            '\u30fb]+') WITH ORDINALITY AS parts(word, place) WHERE word <> ''
    );
END $$;

-- An identifier or a name as one word, without separators.
CREATE OR REPLACE FUNCTION search_key(value text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN value = '' THEN '' ELSE left(regexp_replace(search_fold(value),
        '[\s\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u055a-\u055f\u0589\u05be\u05c0\u05c3'
        '\u05f3\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f'
        '\u30fb]+', '', 'g'), 254) END
$$;

-- The digits from the last to the first, so that national and international forms of a number begin alike: without
-- leading zeros, the zero in brackets and the extension (x12, ext 12, ;ext=12, #12).
CREATE OR REPLACE FUNCTION search_digits(phone text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT reverse(ltrim(regexp_replace(CASE
        WHEN octet_length(phone) > length(phone)
            THEN regexp_replace(translate(phone, '<digits>', '<ascii_digits>'), '\(0\)|(x|ext|#).*$', '', 'gi')
        WHEN phone ~ '[(xX#]' THEN regexp_replace(phone, '\(0\)|(x|ext|#).*$', '', 'gi')
        ELSE phone END, '[^0-9]', '', 'g'), '0'))
$$;

-- The distinct words of a name. Parts with a hyphen count as one word too. Han and Hangul names are written with or
-- without spaces, so a name counts as one word too, and each beginning and end of a word of up to 6 letters is a word.
CREATE OR REPLACE FUNCTION search_words(name text) RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    unspaced CONSTANT text := '[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\uac00-\ud7a3]';
    folded text := search_fold(name);
    spaced text[];
    words text[];
    word text;
BEGIN
    IF octet_length(folded) > length(folded) AND folded ~ (unspaced || '\s+' || unspaced) THEN
        spaced := search_split(folded);
        folded := regexp_replace(folded, '(' || unspaced || ')\s+(?=' || unspaced || ')', '\1', 'g');
    END IF;
    words := search_split(folded);
    IF strpos(folded, '-') > 0 AND folded ~ '\S-\S' THEN
        words := words || search_split(regexp_replace(folded, '(\S)-(?=\S)', '\1', 'g'));
    END IF;
    IF octet_length(folded) > length(folded) AND folded ~ (unspaced || '{2}') THEN
        FOREACH word IN ARRAY words LOOP
            IF word ~ ('^' || unspaced || '{2,6}$') THEN
                words := words || ARRAY(
                    SELECT unnest(ARRAY[left(word, length), right(word, length)])
                    FROM generate_series(1, length(word) - 1) length);
            END IF;
        END LOOP;
    END IF;
    words := words || spaced;
    IF cardinality(words) < 2 OR (cardinality(words) = 2 AND words[1] <> words[2]) THEN
        RETURN words;
    END IF;
    RETURN ARRAY(SELECT DISTINCT unnest(words));
END $$;

-- The distinct terms of a record: the words of the name and each pair of them. A name of more than 16 words would have
-- too many pairs. It has a second term for each word instead, with the prefix 'long:', which a search for several words
-- looks up first. A word holds neither a space nor a colon, so the kinds of terms cannot collide.
CREATE OR REPLACE FUNCTION search_terms(name text, identifier text, phone text, email text) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    words text[] := search_words(name);
    terms text[] := words;
    key text;
BEGIN
    IF cardinality(words) > 16 THEN
        terms := terms || ARRAY(SELECT 'long:' || word FROM unnest(words) word);
        words := '{}';
    END IF;
    FOR one IN 1..cardinality(words) LOOP
        FOR other IN one + 1..cardinality(words) LOOP
            IF words[one] COLLATE "C" < words[other] COLLATE "C" THEN
                terms := terms || (words[one] || ' ' || words[other]);
            ELSE
                terms := terms || (words[other] || ' ' || words[one]);
            END IF;
        END LOOP;
    END LOOP;
    IF identifier <> '' THEN
        key := search_key(identifier);
        terms := CASE WHEN key = '' THEN terms ELSE terms || ('id:' || key) END;
    END IF;
    IF phone <> '' THEN
        key := search_digits(phone);
        terms := CASE WHEN key = '' THEN terms ELSE terms || ('tel:' || key) END;
    END IF;
    IF email <> '' THEN
        key := search_fold(email);
        terms := CASE WHEN key = '' THEN terms ELSE terms || ('mail:' || key) END;
    END IF;
    RETURN terms;
END $$;

-- The first 12 distinct words of a query, the longest first: they are the rarest.
CREATE OR REPLACE FUNCTION search_asked(asked text) RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(word), '{}') FROM (
        SELECT word FROM unnest(search_split(search_fold(asked))) word GROUP BY word
        ORDER BY length(word) DESC, word LIMIT 12
    ) words
$$;
""".replace("<digits>", DIGITS).replace("<ascii_digits>", ASCII_DIGITS)
DROP_FUNCTIONS = """
DROP FUNCTION search_asked(text), search_terms(text, text, text, text), search_words(text), search_digits(text),
    search_key(text), search_split(text), search_fold(text);
"""
NORMALIZATION = declare(DatabaseObject("search", "search_normalization", FUNCTIONS, DROP_FUNCTIONS))
