"""Reads what row-level-security policies say, from the SQL of `RowSecurity` operations.

Only the forms that this project writes are understood. Whatever is written differently counts as no check at all, so
that the system check fails and the policy is written in a form that can be verified.
"""

import re
from dataclasses import dataclass, field

from django.db.models import ForeignKey, Model

from healthcare.rls import CALLER_ID_SQL, OWNER_ID_SQL

POLICY = re.compile(r"(create|drop) policy (?:if exists )?(\w+) on ([\w.]+)", re.IGNORECASE)
FUNCTION = re.compile(
    r"create (?:or replace )?function (\w+) ?\((\w+) bigint\) returns boolean.*? as \$\$(.*?)\$\$", re.IGNORECASE
)
WRITE_COMMANDS = {"all", "insert", "update"}


def normalize_sql(sql: str) -> str:
    """The SQL on one line, without comments, with single spaces and none inside parentheses' edges, in lower case."""
    text = re.sub(r"--[^\n]*", " ", sql)
    text = re.sub(r"\s+", " ", text).strip().lower().replace('"', "")
    return re.sub(r"\( ", "(", re.sub(r" \)", ")", text))


# What a policy compares a column with: the caller, or the owner whose records the request works on.
NORMALIZED_IDS = {normalize_sql(CALLER_ID_SQL), normalize_sql(OWNER_ID_SQL)}


@dataclass(frozen=True)
class Policy:
    """A policy of a table. A row that is written must fulfil `check`: WITH CHECK, or USING where that is absent."""

    command: str  # "all", "select", "insert", "update" or "delete"
    restrictive: bool
    using: str
    check: str

    @property
    def writes(self) -> bool:
        return self.command in WRITE_COMMANDS


def read_functions(sql: str) -> dict[str, str]:
    """The bodies of the functions of one bigint that return a boolean, by name, with $1 for the argument."""
    return {
        name: re.sub(rf"\b{argument}\b", "$1", body.strip().rstrip(";"))
        for name, argument, body in FUNCTION.findall(normalize_sql(sql))
    }


@dataclass
class Policies:
    """The policies of one table, by name. `functions` are those that policies may call."""

    functions: dict[str, str]
    policies: dict[str, Policy] = field(default_factory=dict)

    def apply(self, sql: str) -> None:
        """Create and drop the policies that this SQL creates and drops."""
        text = normalize_sql(sql)
        for statement in POLICY.finditer(text):
            action, name, _ = statement.groups()
            self.policies.pop(name, None)
            if action == "create":
                self.policies[name] = read_policy(text[statement.end() :])

    @property
    def by_owner(self) -> bool:
        """Whether a request reads the rows of one user only: every policy for reading compares a column with the caller
        or with the owner."""
        reading = [policy for policy in self.policies.values() if policy.command in {"all", "select"}]
        return bool(reading) and all(any(one in policy.using for one in NORMALIZED_IDS) for policy in reading)

    def unchecked(self, foreign_key: ForeignKey, *, refers_to_user: bool) -> bool:
        """Whether a request can write a row whose foreign key names a record of another owner.

        A key to the user must equal the caller or the owner in a new row; a policy for UPDATE alone may leave it, since
        a record that everybody may change keeps its creator. A key to another owned table must be checked by every
        policy that lets a row be written: by a subquery, which sees the owner's rows only, or by a function that
        compares the record's owner with that of the request.
        """
        commands = {"all", "insert"} if refers_to_user else WRITE_COMMANDS
        writing = [policy for policy in self.policies.values() if policy.command in commands]
        restrictive = [policy for policy in writing if policy.restrictive]
        permissive = [policy for policy in writing if not policy.restrictive]
        if any(self.checks(policy, foreign_key, refers_to_user=refers_to_user) for policy in restrictive):
            return False
        return not all(self.checks(policy, foreign_key, refers_to_user=refers_to_user) for policy in permissive)

    def checks(self, policy: Policy, foreign_key: ForeignKey, *, refers_to_user: bool) -> bool:
        column = foreign_key.column
        return any(
            self.condition_holds(condition, column, foreign_key.related_model, refers_to_user=refers_to_user)
            for condition in split_outside_parentheses(policy.check, " and ")
        )

    def condition_holds(self, condition: str, column: str, owned: type[Model], *, refers_to_user: bool) -> bool:
        """Whether this one condition of a conjunction ensures that the column names a record of the owner, or none."""
        alternatives = split_outside_parentheses(without_parentheses(condition), " or ")
        if len(alternatives) > 1:
            needed = [one for one in alternatives if one != f"{column} is null"]
            return all(self.condition_holds(one, column, owned, refers_to_user=refers_to_user) for one in needed)
        if refers_to_user:
            return any(alternatives[0] in {f"{column} = {one}", f"{one} = {column}"} for one in NORMALIZED_IDS)
        table, key = owned._meta.db_table, owned._meta.pk.column
        source = rf"\(select(?: 1)? from {table}(?: as)? (\w+) where"
        exists = rf"exists {source} (?:\1\.{key} = {column}|{column} = \1\.{key})\)"
        among = rf"{column} in \(select {key} from {table}\)"  # noqa: S608  (a pattern, no statement)
        if re.fullmatch(f"{exists}|{among}", alternatives[0]):
            return True
        call = re.fullmatch(rf"(\w+)\({column}\)", alternatives[0])
        ids = "|".join(re.escape(one) for one in sorted(NORMALIZED_IDS))
        same_owner = rf"{key} = \$1 and \w+ = ({ids})"
        body = self.functions.get(call[1], "") if call else ""
        return bool(re.fullmatch(rf"select exists \(select from {table} where {same_owner}\)", body))  # noqa: S608


def read_policy(text: str) -> Policy:
    """The policy whose statement continues with this text, after CREATE POLICY name ON table."""
    command = re.match(r"(?: as \w+)? for (\w+)", text)
    using, check = clause(text, "using"), clause(text, "with check")
    return Policy(command[1] if command else "all", text.startswith(" as restrictive"), using, check or using)


def clause(text: str, name: str) -> str:
    """What stands in the parentheses after USING or WITH CHECK, before the statement's end; empty without such."""
    start = re.match(rf"[^;]*?\b{name} \(", text)
    if not start:
        return ""
    return text[start.end() : closing(text, start.end())]


def closing(text: str, start: int) -> int:
    """Where the parenthesis closes that was opened just before `start`."""
    depth, quoted = 1, False
    for position in range(start, len(text)):
        character = text[position]
        quoted ^= character == "'"
        depth += 0 if quoted else (character == "(") - (character == ")")
        if depth == 0:
            return position
    return len(text)


def split_outside_parentheses(text: str, separator: str) -> list[str]:
    """The parts between separators that stand outside parentheses and quotes."""
    parts, depth, quoted, begin, position = [], 0, False, 0, 0
    while position < len(text):
        character = text[position]
        quoted ^= character == "'"
        depth += 0 if quoted else (character == "(") - (character == ")")
        if not quoted and depth == 0 and text.startswith(separator, position):
            parts.append(text[begin:position])
            position = begin = position + len(separator)
        else:
            position += 1
    return [*parts, text[begin:]]


def without_parentheses(text: str) -> str:
    """The text without the parentheses around all of it."""
    while text.startswith("(") and closing(text, 1) == len(text) - 1 and not text.startswith("(select"):
        text = text[1:-1]
    return text
