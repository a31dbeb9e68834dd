"""What the applied migrations declare about access: row-level security, its policies, and privileges on relations.

The SQL of the migrations is the only list. Its access statements are collected in the order of the migrations; those
that a later statement has superseded are left out, so that what remains runs on the relations as they are now.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from django.db.migrations import operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

from healthcare.upgrades.statements import split_statements

IDENTIFIER = r'(?:"[^"]+"|\w+)'
RELATION = rf'(?:(?:public|"public")\.)?({IDENTIFIER})'
ALTER_TABLE = re.compile(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{RELATION} ", re.IGNORECASE)
ROW_SECURITY = re.compile(r"(?:ENABLE|DISABLE|NO FORCE|FORCE) ROW LEVEL SECURITY", re.IGNORECASE)
POLICY_STATEMENT = re.compile(rf"(CREATE|ALTER|DROP) POLICY (?:IF EXISTS )?({IDENTIFIER}) ON {RELATION}", re.IGNORECASE)
PRIVILEGE = re.compile(
    rf"(GRANT|REVOKE) (.+?) ON (TABLE |SEQUENCE )?((?:{RELATION})(?:, ?(?:{RELATION}))*) (?P<grantees>(?:TO|FROM) .+)",
    re.IGNORECASE,
)
# Functions follow one rule (healthcare.rls.privileges); of schemas the role uses `public` alone.
OTHER_PRIVILEGE = re.compile(
    r"(GRANT|REVOKE) [^;]*? ON (FUNCTION|ROUTINE|SCHEMA|DATABASE|ALL FUNCTIONS) ", re.IGNORECASE
)
ROLE_MEMBERSHIP = re.compile(r"(GRANT|REVOKE) (?!.* ON )", re.IGNORECASE)
DROP_RELATION = re.compile(rf"DROP (?:TABLE|(?:MATERIALIZED )?VIEW) (?:IF EXISTS )?{RELATION}", re.IGNORECASE)


class DeclarationError(Exception):
    """The access that a migration declares cannot be derived. The text says what to change in a migration."""


@dataclass
class RelationAccess:
    """The statements that give one relation its access, as templates with `{relation}` for its name."""

    row_security: list[str] = field(default_factory=list)
    policies: dict[str, list[str]] = field(default_factory=dict)
    privileges: list[str] = field(default_factory=list)

    def row_security_sql(self, relation: str) -> list[str]:
        return name_relation(self.row_security, relation)

    def policy_sql(self, relation: str, policy: str) -> list[str]:
        return name_relation(self.policies[policy], relation)

    def privilege_sql(self, relation: str) -> list[str]:
        return name_relation(self.privileges, relation)

    def statements(self, relation: str) -> list[str]:
        return name_relation([*self.row_security, *sum(self.policies.values(), []), *self.privileges], relation)


def name_relation(templates: list[str], relation: str) -> list[str]:
    return [template.replace("{relation}", f'"{relation}"') for template in templates]


Declaration = dict[str, RelationAccess]


def declared_access(loader: MigrationLoader, applied: Collection[tuple[str, str]]) -> Declaration:
    """The access that the applied migrations declare, by relation. Raises DeclarationError."""
    reader = DeclarationReader()
    seen: set[tuple[str, str]] = set()
    for leaf in loader.graph.leaf_nodes():
        for key in loader.graph.forwards_plan(leaf):
            if key in seen or key not in applied:
                continue
            seen.add(key)
            reader.read_operations(key, loader.graph.nodes[key].operations)
    return {relation: access for relation, access in reader.declared.items() if access.statements(relation)}


class DeclarationReader:
    """Follows the operations of the migrations in their order."""

    def __init__(self) -> None:
        self.declared: Declaration = defaultdict(RelationAccess)
        self.tables: dict[tuple[str, str], str] = {}

    def read_operations(self, migration: tuple[str, str], read: Iterable[Operation]) -> None:
        for operation in read:
            if isinstance(operation, operations.SeparateDatabaseAndState):
                self.read_operations(migration, operation.database_operations)
            elif isinstance(operation, operations.RunSQL):
                for statement in statements_of(operation.sql):
                    self.read_statement(migration, statement)
            else:
                self.follow_model(migration[0], operation)

    def follow_model(self, app: str, operation: Operation) -> None:
        """Keep the names of the tables: a dropped table loses its access, a renamed one keeps it."""
        if isinstance(operation, operations.CreateModel):
            default = f"{app}_{operation.name_lower}"
            self.tables[app, operation.name_lower] = str(operation.options.get("db_table") or default)
        elif isinstance(operation, operations.DeleteModel):
            self.declared.pop(self.tables.pop((app, operation.name_lower), ""), None)
        elif isinstance(operation, operations.RenameModel):
            old = self.tables.pop((app, operation.old_name_lower), "")
            named_by_default = old == f"{app}_{operation.old_name_lower}"
            new = f"{app}_{operation.new_name_lower}" if named_by_default else old
            self.rename(app, operation.new_name_lower, old, new)
        elif isinstance(operation, operations.AlterModelTable):
            old = self.tables.get((app, operation.name_lower), "")
            self.rename(app, operation.name_lower, old, operation.table or f"{app}_{operation.name_lower}")

    def rename(self, app: str, model: str, old: str, new: str) -> None:
        self.tables[app, model] = new
        if old != new and old in self.declared:
            self.declared[new] = self.declared.pop(old)

    def read_statement(self, migration: tuple[str, str], statement: str) -> None:
        if found := ALTER_TABLE.match(statement):
            for action in ROW_SECURITY.findall(statement, found.end()):
                self.declared[unquote(found[1])].row_security.append(f"ALTER TABLE {{relation}} {action}")
        elif found := POLICY_STATEMENT.match(statement):
            action, policy, relation = found.groups()
            policies = self.declared[unquote(relation)].policies
            if action.upper() != "ALTER":
                policies.pop(unquote(policy), None)
            if action.upper() != "DROP":
                template = f"{action} POLICY {policy} ON {{relation}}{statement[found.end() :]}"
                policies.setdefault(unquote(policy), []).append(template)
        elif found := DROP_RELATION.match(statement):
            self.declared.pop(unquote(found[1]), None)
        elif re.match(r"GRANT |REVOKE ", statement, re.IGNORECASE):
            self.read_privilege(migration, statement)

    def read_privilege(self, migration: tuple[str, str], statement: str) -> None:
        if OTHER_PRIVILEGE.match(statement) or ROLE_MEMBERSHIP.match(statement):
            return
        found = PRIVILEGE.fullmatch(statement)
        if not found:
            raise DeclarationError(
                f"The migration {'.'.join(migration)} has a GRANT or REVOKE whose relations are not named one by one; "
                "name them, so that `migrate` can put the privileges back."
            )
        verb, privileges, kind, relations, grantees = (
            found[1],
            found[2],
            found[3] or "",
            found[4],
            found[found.lastindex or 0],
        )
        for relation in re.findall(RELATION, relations):
            access = self.declared[unquote(relation)]
            if verb.upper() == "REVOKE" and re.fullmatch(r"ALL( PRIVILEGES)?", privileges, re.IGNORECASE):
                access.privileges.clear()
            access.privileges.append(f"{verb} {privileges} ON {kind}{{relation}} {grantees}")


def statements_of(sql: object) -> Iterator[str]:
    """The statements of a RunSQL operation's `sql`, without comments: see `split_statements`."""
    if isinstance(sql, (list, tuple)):
        for part in sql:
            yield from statements_of(part[0] if isinstance(part, (list, tuple)) else part)
    elif isinstance(sql, str):
        yield from split_statements(sql)


def unquote(name: str) -> str:
    return name[1:-1] if name.startswith('"') else name.lower()
