"""What staff look a query up in: the vocabulary of one owner, or the words of all owners, each of them once.

Triggers on the vocabulary keep the words of all owners. A word that the owner has already costs nothing, and so does
one that another owner has but for one look. A word may stand twice, which does no harm, as in the vocabulary.
"""

from dataclasses import asdict

import pgtrigger
from django.db.models import Model

from healthcare.database_objects import DatabaseObject, declare
from healthcare.search.index import Index
from healthcare.search.vocabulary import BEGINS, LOOSE, NEAR, SIMILAR, SIMILAR_ENOUGH, compose
from healthcare.triggers import DatabaseTrigger

# As many as of one owner, but fewer if there are many owners: each is looked up for every owner who has it.
STAFF_MOST_BEGINNINGS = {
    "most_of_one": "greatest(8, least(200, 20000 / greatest(1, cardinality(owners))))",
    "most_of_several": "greatest(8, least(48, 20000 / greatest(1, cardinality(owners))))",
}
# The recursion skips from an owner to the next one in the index.
ALL_OWNERS = """WITH RECURSIVE one(owner) AS (
        (SELECT owner FROM {terms} ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT next.owner FROM {terms} next WHERE next.owner > one.owner ORDER BY next.owner LIMIT 1)
        FROM one WHERE one.owner IS NOT NULL
    ) SELECT owner FROM one WHERE owner IS NOT NULL"""
LONG_NAMES_EXIST = """(
            SELECT EXISTS (SELECT FROM {terms} long WHERE long.owner = ANY (owners) AND long.hidden IN (true, false)
                AND long.term > 'long:' AND long.term < 'long;')
        )"""
REVOKE_FROM_PUBLIC = """
REVOKE ALL ON FUNCTION {words}_near_of(text, bigint), {words}_near_all(text) FROM PUBLIC;
"""
STAFF_CREATE_SIMILARITY_INDEX = """
DO $$
DECLARE
    trigram_schema text;
BEGIN
    SELECT quote_ident(nspname) INTO trigram_schema
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_trgm';
    IF trigram_schema IS NOT NULL THEN
        EXECUTE format('CREATE INDEX IF NOT EXISTS {known_words}_similar ON {known_words} '
            'USING gin (word %s.gin_trgm_ops) WITH (fastupdate = off)', trigram_schema);
    END IF;
END $$;
"""
STAFF_DROP = """
DROP INDEX IF EXISTS {known_words}_similar;
DROP FUNCTION {words}_near_of(text, bigint), {words}_near_all(text);
"""


def all_owners(index: Index) -> str:
    """SQL for the owners of terms."""
    return ALL_OWNERS.format(terms=index.terms)


def create_near_for_staff(index: Index) -> str:
    """SQL that creates or replaces `<words>_near_of`, which looks in the vocabulary of the given owner, and
    `<words>_near_all`. They run with the caller's rights (SECURITY INVOKER)."""
    words = {"words": index.known_words, "of_owner": "", "of_owner_line": ""}
    likenesses = BEGINS.format(**words, **STAFF_MOST_BEGINNINGS)
    likenesses += SIMILAR.format(**words, similar=SIMILAR_ENOUGH, loose=LOOSE)
    of_all = {
        "signature": f"{index.words}_near_all(asked text)",
        "rights": "",
        "declared": f"owners bigint[] := ARRAY({all_owners(index)});\n    ",
        "likenesses": likenesses,
        "is_owner": "= ANY (owners)",
        # The statement that looks the terms up finds out which of them exist.
        "is_stored": "true",
        "is_long": LONG_NAMES_EXIST.format(terms=index.terms),
    }
    of_one = compose(index, f"{index.words}_near_of(asked text, caller bigint)", "", "")
    return of_one + NEAR.format(**asdict(index) | of_all) + REVOKE_FROM_PUBLIC.format(words=index.words)


class KnownWordInsertTrigger(DatabaseTrigger):
    """Adds a word that no owner had."""

    name = "known_word_insert"
    when = pgtrigger.After
    operation = pgtrigger.Insert
    security_definer = True

    def __init__(self, index: Index) -> None:
        self.index = index
        super().__init__()

    def get_func(self, model: type[Model]) -> str:  # type: ignore[override]
        return f"""
    IF NOT EXISTS (SELECT FROM {self.index.known_words} WHERE word = NEW.word) THEN
        INSERT INTO {self.index.known_words} (word) VALUES (NEW.word);
    END IF;
    RETURN NULL;
"""  # noqa: S608  (names of our tables)


class KnownWordDeleteTrigger(KnownWordInsertTrigger):
    """Removes a word that no owner has any more. What removes words excludes who inserts some: see `triggers`."""

    name = "known_word_delete"
    operation = pgtrigger.Delete

    def get_func(self, model: type[Model]) -> str:  # type: ignore[override]
        return f"""
    DELETE FROM {self.index.known_words} WHERE word = OLD.word
        AND NOT EXISTS (SELECT FROM {self.index.words} other WHERE other.word = OLD.word);
    RETURN NULL;
"""  # noqa: S608


def declare_vocabulary_of_staff(app_label: str, index: Index) -> None:
    create = create_near_for_staff(index) + STAFF_CREATE_SIMILARITY_INDEX.format(known_words=index.known_words)
    drop = STAFF_DROP.format(words=index.words, known_words=index.known_words)
    declare(DatabaseObject(app_label, f"{index.words}_near_for_staff", create, drop))
