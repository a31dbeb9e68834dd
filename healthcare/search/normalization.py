"""How text is folded, for storing and for asking alike: SQL functions, since triggers use them too.

Case, accents, vowel points and width go (Unicode NFKD, then what `unaccent` knows); apostrophes vanish, other
punctuation parts words. Nothing here depends on the database's locale but `lower`, for which a collation is chosen.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from healthcare.search.extensions import Extensions

# Code points, as PostgreSQL's regular expressions write them.
APOSTROPHES = r"[''`´′‘’ʼʻ]"
# Combining marks of Latin, Greek and Cyrillic, points of Hebrew and Arabic with the tatweel, nuktas, the invisible.
MARKS = (
    r"[\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u093c\u09bc\u0a3c"
    r"\u1ab0-\u1aff\u1dc0-\u1dff\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]"
)
# Letters that no decomposition parts: Arabic and Persian twins, the sigma at the end of a word, a nasal sign.
TWINS = ("ٱىةکیےھہςँłøđðħıŧŋ", "ايهكييههσंloddhitn")
SEPARATORS = (
    r"[\s\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u055a-\u055f\u0589\u05be\u05c0\u05c3\u05f3"
    r"\u05f4\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u2000-\u206f\u2e00-\u2e7f\u3000-\u303f\u30fb]+"
)
# Scripts whose names are written without a space between the family's and the given name: Han and Hangul.
UNSPACED = r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\uac00-\ud7a3]"
NAMED, ASKED = 8, 6  # the most words of a name, and of what is asked, that count
LONGEST = 64  # characters of a word

FUNCTIONS = r"""
CREATE OR REPLACE FUNCTION search_fold(value text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT normalize(replace(replace(replace(replace(translate(lower(
        {unaccent}(regexp_replace(normalize(regexp_replace(value, '{apostrophes}', '', 'g'), NFKD), '{marks}', '', 'g'))
        COLLATE {collation}), '{twins}', '{twin}'), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'), NFC)
$$;

CREATE OR REPLACE FUNCTION search_split(folded text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(left(word, {longest}) ORDER BY place), '{{}}')
    FROM regexp_split_to_table(folded, '{separators}') WITH ORDINALITY AS parts(word, place) WHERE word <> ''
$$;

CREATE OR REPLACE FUNCTION search_key(value text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT left(regexp_replace(search_fold(value), '{separators}', '', 'g'), 254)
$$;

-- The digits from the last to the first, so that two ways to write a number begin alike: without the zeros in front,
-- the zero in brackets and the extension.
CREATE OR REPLACE FUNCTION search_digits(phone text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT reverse(ltrim(regexp_replace(regexp_replace(phone, '\(0\)|(x|ext).*$', '', 'gi'), '[^0-9]', '', 'g'), '0'))
$$;

-- The words of a name. Of one written without spaces every beginning and end is a word too, so that the family's and
-- the given name find it; parts with a hyphen are one word as well.
CREATE OR REPLACE FUNCTION search_words(name text) RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    folded text := regexp_replace(search_fold(name), '({unspaced})\s+(?={unspaced})', '\1', 'g');
    words text[] := (search_split(folded))[:{named}];
    word text;
BEGIN
    IF folded ~ '\S-\S' THEN
        words := words || (search_split(regexp_replace(folded, '(\S)-(?=\S)', '\1', 'g')))[:{named}];
    END IF;
    IF folded ~ '{unspaced}{{2}}' THEN
        FOREACH word IN ARRAY words LOOP
            IF word ~ '^{unspaced}{{2,6}}$' THEN
                words := words || ARRAY(
                    SELECT unnest(ARRAY[left(word, length), right(word, length)])
                    FROM generate_series(1, length(word) - 1) length);
            END IF;
        END LOOP;
    END IF;
    RETURN ARRAY(SELECT DISTINCT unnest(words));
END $$;

CREATE OR REPLACE FUNCTION search_terms(name text, identifier text, phone text, email text) RETURNS SETOF text
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    words text[] := search_words(name);
BEGIN
    RETURN QUERY SELECT unnest(words);
    RETURN QUERY SELECT a || ' ' || b FROM unnest(words) a, unnest(words) b WHERE a COLLATE "C" < b COLLATE "C";
    RETURN QUERY SELECT kind || value FROM (VALUES
        ('id:', search_key(identifier)), ('tel:', search_digits(phone)), ('mail:', search_fold(email))
    ) keys(kind, value) WHERE value <> '';
END $$;

-- The distinct words that are asked for, the longest first: they are the rarest.
CREATE OR REPLACE FUNCTION search_asked(asked text) RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(word), '{{}}') FROM (
        SELECT word FROM unnest(search_split(search_fold(asked))) word GROUP BY word
        ORDER BY length(word) DESC, word LIMIT {asked}
    ) words
$$;
"""
DROP_FUNCTIONS = """
DROP FUNCTION search_asked(text), search_terms(text, text, text, text), search_words(text), search_digits(text),
    search_key(text), search_split(text), search_fold(text)
"""
COLLATIONS = ("pg_c_utf8", "und-x-icu")  # whose lower() knows every script, whatever the database's locale


def functions(connection: BaseDatabaseWrapper) -> str:
    """Creates the functions, or replaces them, with what there is on this server."""
    extensions = Extensions.of(connection)
    schema = extensions.schemas.get("unaccent")
    with connection.cursor() as cursor:
        cursor.execute("SELECT collname FROM pg_collation WHERE collname = ANY(%s)", [list(COLLATIONS)])
        there = {row[0] for row in cursor.fetchall()}
    collation = next((f'"{name}"' for name in COLLATIONS if name in there), '"default"')
    twins, twin = TWINS
    return FUNCTIONS.format(
        unaccent=f"{schema}.unaccent" if schema else "",
        collation=collation,
        twins=twins,
        twin=twin,
        apostrophes=APOSTROPHES,
        marks=MARKS,
        separators=SEPARATORS,
        unspaced=UNSPACED,
        longest=LONGEST,
        named=NAMED,
        asked=ASKED,
    )
