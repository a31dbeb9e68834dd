"""The SQL of the trigger that keeps an index's terms and vocabulary."""

from dataclasses import asdict

from healthcare.search.index import Index

# What a statement adds, of some rows: their terms, and the words that the vocabulary does not have yet.
ADD = """
WITH made AS (
    INSERT INTO {terms} (owner, hidden, term, record)
    SELECT DISTINCT {owner}, deleted_at IS NOT NULL, term, id FROM {rows}, search_terms({values}) term
    RETURNING owner, term
)
INSERT INTO {words} (owner, word) SELECT DISTINCT owner, term FROM made
WHERE term !~ '[ :]' AND NOT EXISTS (SELECT FROM {words} known WHERE known.owner = made.owner AND known.word = term)
"""
# The records whose place no other one has taken, each with those whose place it took: it is found by their words too.
FAMILIES = """
(
    WITH RECURSIVE family(id, deleted_at, member) AS (
        SELECT id, deleted_at, id FROM {table} WHERE {successor} IS NULL {which}
        UNION ALL SELECT family.id, family.deleted_at, merged.id FROM {table} merged, family WHERE {successor} = member
    )
    SELECT family.id, family.deleted_at, {said} FROM family JOIN {table} said ON said.id = member
) AS families
"""
# It works with its owner's rights, since callers may not write terms, and with a pinned search path. Records
# are added a statement at a time, so that many at once cost little more than their rows; a change that is not searched
# for costs nothing.
#
# Who adds a word does not wait for another who adds it. So that a word is not taken for there while it is removed, the
# removal waits for all who write here and keeps others out until it is done: only the erasure of a person comes to it.
KEEP = """
CREATE OR REPLACE FUNCTION {terms}_keep() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    touched bigint[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        {add_new};
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT unnest(ARRAY[id, {successor}]) FROM old_rows);
        IF touched = '{{}}' THEN
            RETURN NULL;
        END IF;
    ELSE
        touched := ARRAY[NEW.id, {new_successor}, {old_successor}];
    END IF;
    touched := touched || ARRAY(
        WITH RECURSIVE ahead(id, next) AS (
            SELECT id, {successor} FROM {table} WHERE id = ANY(touched)
            UNION SELECT successor.id, {successor} FROM {table} successor JOIN ahead ON successor.id = next
        ) SELECT id FROM ahead);
    DELETE FROM {terms} WHERE record = ANY(touched);
    {add_touched};
    IF TG_OP = 'DELETE' THEN
        LOCK TABLE {words} IN SHARE ROW EXCLUSIVE MODE;
        DELETE FROM {words} USING (SELECT DISTINCT {owner} AS id FROM old_rows) owners
        WHERE owner = owners.id AND NOT EXISTS (
            SELECT FROM {terms} used
            WHERE used.owner = owners.id AND used.hidden IN (true, false) AND used.term = word
        );
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER {terms}_insert AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {terms}_keep();
CREATE OR REPLACE TRIGGER {terms}_update AFTER UPDATE ON {table}
    FOR EACH ROW WHEN (ROW({new}) IS DISTINCT FROM ROW({old})) EXECUTE FUNCTION {terms}_keep();
CREATE OR REPLACE TRIGGER {terms}_delete AFTER DELETE ON {table}
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {terms}_keep();
"""
DROP = """
DROP TRIGGER {terms}_insert ON {table};
DROP TRIGGER {terms}_update ON {table};
DROP TRIGGER {terms}_delete ON {table};
DROP FUNCTION {terms}_keep();
"""


def values(index: Index) -> str:
    return ", ".join(
        f'"{column}"' if column else "''" for column in (index.name, index.identifier, index.phone, index.email)
    )


def fields(index: Index) -> dict[str, str]:
    own = {"owner": index.owner or "0", "successor": index.successor or "NULL::bigint", "values": values(index)}
    return asdict(index) | own


def keep(index: Index) -> str:
    """Creates the trigger, or replaces it."""
    add_new = ADD.format(rows="new_rows", **fields(index))
    add_touched = add_terms(index, "AND id = ANY(touched)")
    rows = {}
    for row in ("new", "old"):
        kept = [f'{row.upper()}."{name}"' for name in columns(index)]
        rows[row] = ", ".join([*kept, f"{row.upper()}.deleted_at IS NULL"])
        rows[f"{row}_successor"] = f'{row.upper()}."{index.successor}"' if index.successor else "NULL"
    return KEEP.format(add_new=add_new, add_touched=add_touched, **rows, **fields(index))


def columns(index: Index) -> list[str]:
    """What the terms are made of."""
    names = (index.owner, index.successor, index.name, index.identifier, index.phone, index.email)
    return [name for name in names if name]


def add_terms(index: Index, which: str = "") -> str:
    """Adds the terms of the rows that are there, or some of them, and the words that are new."""
    said = ", ".join(f'said."{name}"' for name in columns(index) if name != index.successor)
    return ADD.format(rows=FAMILIES.format(which=which, said=said, **fields(index)), **fields(index))


def drop(index: Index) -> str:
    return DROP.format(**asdict(index))
