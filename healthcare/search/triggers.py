"""The triggers that keep the terms and the vocabulary of a searchable model, and the SQL that they share with
`rebuild_search`."""

from dataclasses import asdict

import pgtrigger
from django.db.models import Model

from healthcare.search.index import Index
from healthcare.triggers import DatabaseTrigger

# Inserts the words of new terms that the vocabulary lacks. It does not wait for another transaction that inserts the
# same word; a word may then exist twice, which does no harm.
ADD_WORDS = """INSERT INTO {words} (owner, word) SELECT DISTINCT owner, term FROM added
    WHERE term !~ '[ :]' AND NOT EXISTS (
        SELECT FROM {words} known WHERE known.owner = added.owner AND known.word = added.term
    )"""
# The terms of new records. No record repeats one.
ADD_NEW = """WITH added AS (
        INSERT INTO {terms} (owner, hidden, term, record)
        SELECT {owner}, deleted_at IS NOT NULL, term, id FROM {new_rows}, unnest({row_terms}) term
        RETURNING owner, term
    )
    {add_words}"""
TERMS_OF_IDENTIFIERS = """ARRAY(
        SELECT 'id:' || key FROM jsonb_to_recordset({column}) one(value text), search_key(one.value) key WHERE key <> ''
    )"""
# Of the records that replace others (merged patients) and of all others: `id` is a record that nothing replaces,
# `member` one whose terms it is found by, itself or what it replaces.
FAMILIES = """
    WITH RECURSIVE family(id, deleted_at, member) AS (
        SELECT id, deleted_at, id FROM {table} WHERE {successor} IS NULL AND {which}
        UNION ALL
        SELECT family.id, family.deleted_at, merged.id FROM {table} merged JOIN family ON {successor} = family.member
    ), wanted AS MATERIALIZED (
        SELECT DISTINCT {member_owner} AS owner, family.deleted_at IS NOT NULL AS hidden, term, family.id AS record
        FROM family JOIN {table} member ON member.id = family.member, unnest({member_terms}) term
    )"""
# The same where no record replaces another.
RECORDS = """
    WITH wanted AS MATERIALIZED (
        SELECT {owner} AS owner, deleted_at IS NOT NULL AS hidden, term, id AS record
        FROM {table}, unnest({row_terms}) term WHERE {which}
    )"""
# Makes the terms of some records those that are wanted. It writes only what differs.
SYNCHRONIZE = """{wanted}, removed AS (
        DELETE FROM {terms} had WHERE {which_terms} AND NOT EXISTS (
            SELECT FROM wanted WHERE wanted.record = had.record
            AND (wanted.owner, wanted.hidden, wanted.term) = (had.owner, had.hidden, had.term)
        )
    ), added AS (
        INSERT INTO {terms} (owner, hidden, term, record)
        SELECT owner, hidden, term, record FROM wanted WHERE NOT EXISTS (
            SELECT FROM {terms} had WHERE had.record = wanted.record
            AND (had.owner, had.hidden, had.term) = (wanted.owner, wanted.hidden, wanted.term)
        )
        RETURNING owner, term
    )
    {add_words}"""
# A word may go when no term of its owner holds it. The lock waits for all who write words and excludes others until the
# commit: none of them can count on a word that is being removed.
REMOVE_WORDS = """LOCK TABLE {words} IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM {words} WHERE {which} AND NOT EXISTS (
        SELECT FROM {terms} used WHERE used.owner = {words}.owner AND used.hidden IN (true, false)
        AND used.term = {words}.word
    )"""


def indexed_columns(index: Index) -> list[str]:
    """The columns that the terms are made of."""
    names = (
        index.owner, index.successor, index.name, index.identifier, index.identifiers, index.phone,
        index.alternate_phone, index.email,
    )  # fmt: skip
    return [name for name in names if name]


def fragments(index: Index) -> dict[str, str]:
    """What the SQL above is formatted with."""
    return asdict(index) | {
        "owner": f'"{index.owner}"' if index.owner else "0",
        "member_owner": f'member."{index.owner}"' if index.owner else "0",
        "row_terms": terms_of(index, ""),
        "member_terms": terms_of(index, "member."),
        "add_words": ADD_WORDS.format(words=index.words),
    }


def terms_of(index: Index, row: str) -> str:
    """SQL for the distinct terms of a row, whose name with its dot is `row`."""
    texts = (index.name, index.identifier, index.phone, index.email)
    terms = f"search_terms({', '.join(sql_of_text(name, row) for name in texts)})"
    more, nothing_more = [], []
    if index.identifiers:
        column = f'{row}"{index.identifiers}"'
        more.append(TERMS_OF_IDENTIFIERS.format(column=column))
        nothing_more.append(f"{column} = '[]'")
    if index.alternate_phone:
        column = sql_of_text(index.alternate_phone, row)
        more.append(f"search_terms('', '', {column}, '')")
        nothing_more.append(f"{column} = ''")
    if not more:
        return terms
    all_terms = f"ARRAY(SELECT DISTINCT unnest({' || '.join([terms, *more])}))"
    return f"CASE WHEN {' AND '.join(nothing_more)} THEN {terms} ELSE {all_terms} END"


def sql_of_text(name: str, row: str) -> str:
    return f'{row}"{name}"' if name else "''"


def synchronize(index: Index, which: str, which_terms: str) -> str:
    """SQL that brings the terms of some records up to date. `which` chooses the records, in SQL over the columns of the
    model's table; `which_terms` chooses the present terms to compare with, in SQL over the columns of `had`."""
    fields = fragments(index)
    wanted = (FAMILIES if index.successor else RECORDS).format(which=which, **fields)
    return SYNCHRONIZE.format(wanted=wanted, which_terms=which_terms, **fields)


def remove_words(index: Index, which: str) -> str:
    """SQL that removes those words of the vocabulary for which `which` holds and that no term holds any more."""
    return REMOVE_WORDS.format(which=which, terms=index.terms, words=index.words)


# All records that the changed ones are found with: themselves and what replaces them, directly or in turn.
TOUCHED = """touched := touched || ARRAY(
        WITH RECURSIVE ahead(id, next) AS (
            SELECT id, {successor} FROM {table} WHERE id = ANY(touched)
            UNION SELECT successor.id, {successor} FROM {table} successor JOIN ahead ON successor.id = next
        ) SELECT id FROM ahead);
    """


class SearchTrigger(DatabaseTrigger):
    """Runs with its owner's rights, since callers may not write terms."""

    when = pgtrigger.After
    security_definer = True

    def __init__(self, index: Index) -> None:
        self.index = index
        super().__init__()


class SearchInsertTrigger(SearchTrigger):
    """Adds the terms of new records, a statement at a time."""

    name = "search_insert"
    operation = pgtrigger.Insert
    level = pgtrigger.Statement
    referencing = pgtrigger.Referencing(new="new_rows")  # type: ignore[no-untyped-call]

    def get_func(self, model: type[Model]) -> str:  # type: ignore[override]
        add = ADD_NEW.format(new_rows="new_rows", **fragments(self.index))
        return f"""
    {add};
    RETURN NULL;
"""


class SearchUpdateTrigger(SearchTrigger):
    """Changes the terms of a record when what they are made of changes; any other change costs nothing."""

    name = "search_update"
    operation = pgtrigger.Update

    def get_declare(self, model: type[Model]) -> list[tuple[str, str]]:  # type: ignore[override]
        return [("touched", "bigint[] := ARRAY[NEW.id]")]

    def render_condition(self, model: type[Model]) -> str:  # type: ignore[override]
        new, old = (
            ", ".join([*(f'{row}."{name}"' for name in indexed_columns(self.index)), f"{row}.deleted_at IS NULL"])
            for row in ("NEW", "OLD")
        )
        return f"WHEN (ROW({new}) IS DISTINCT FROM ROW({old}))"

    def get_func(self, model: type[Model]) -> str:  # type: ignore[override]
        index, table = self.index, self.index.table
        fields = fragments(index)
        of_touched = SYNCHRONIZE.format(
            wanted=RECORDS.format(which="id = NEW.id", **fields), which_terms="had.record = NEW.id", **fields
        )
        if not index.successor:
            return f"""
    {of_touched};
    RETURN NULL;
"""
        new, old = f'NEW."{index.successor}"', f'OLD."{index.successor}"'
        alone = f'NOT EXISTS (SELECT FROM {table} WHERE "{index.successor}" = NEW.id)'  # noqa: S608
        of_families = synchronize(index, "id = ANY(touched)", "had.record = ANY(touched)")
        return f"""
    IF {new} IS NULL AND {old} IS NULL AND {alone} THEN
        {of_touched};
        RETURN NULL;
    END IF;
    touched := touched || {new} || {old};
    {TOUCHED.format(successor=index.successor, table=table)}{of_families};
    RETURN NULL;
"""


class SearchDeleteTrigger(SearchTrigger):
    """Removes the terms of removed records, and the words that no record has any more."""

    name = "search_delete"
    operation = pgtrigger.Delete
    level = pgtrigger.Statement
    referencing = pgtrigger.Referencing(old="old_rows")  # type: ignore[no-untyped-call]

    def get_declare(self, model: type[Model]) -> list[tuple[str, str]]:  # type: ignore[override]
        successor = self.index.successor or "NULL::bigint"
        return [("touched", f"bigint[] := ARRAY(SELECT unnest(ARRAY[id, {successor}]) FROM old_rows)")]  # noqa: S608

    def get_func(self, model: type[Model]) -> str:  # type: ignore[override]
        index = self.index
        ahead = TOUCHED.format(successor=index.successor, table=index.table) if index.successor else ""
        owners = f'IN (SELECT "{index.owner}" FROM old_rows)' if index.owner else "= 0"  # noqa: S608
        return f"""
    IF touched = '{{}}' THEN
        RETURN NULL;
    END IF;
    {ahead}{synchronize(index, "id = ANY(touched)", "had.record = ANY(touched)")};
    {remove_words(index, f"owner {owners}")};
    RETURN NULL;
"""
