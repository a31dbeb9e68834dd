"""Lists that are read on a replica: what is sent to it, and then to the primary. See `healthcare.replicas`."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from healthcare.fastpath.actions import entry_statements
from healthcare.fastpath.execution import Statement, execute
from healthcare.fastpath.json_sql import Fragment
from healthcare.fastpath.placeholders import Placeholder
from healthcare.fastpath.statements import IS_PRINCIPAL, CompiledRead, compile_read, principal_of
from healthcare.operations.metrics import count_replica_read
from healthcare.replicas import position, sessions
from healthcare.rls.context import CLAIM_PLANNED_ONCE, TAKE_ROLE, Entry, claims

IDS = Placeholder("ids of the subjects")
# The position of the replica and, after a line feed, the ids of those whose data the rows are; nothing after it if no
# access is to be recorded, because there is no such list.
POSITION_AND_IDS = f"concat({position.STORED_POSITION}, chr(10), (SELECT ids FROM recorded))"  # noqa: S608
SELECT_IDS = "SELECT {ids} AS ids WHERE {condition}"

List = TypeVar("List", bound=Any)  # FastList, which imports this module


@dataclass(frozen=True)
class ReplicaRows:
    """The rows of a list from a replica, and what the primary has said to them."""

    rows: list[tuple[Any, ...]]
    principal: str  # as the primary's PRINCIPAL_SQL gives it


class ReplicaRead:
    """Reads the rows of one list."""

    def __init__(self, action: Any) -> None:
        self.recording = action.recording
        self.action = selecting_ids(action)

    @cached_property
    def record(self) -> CompiledRead:
        """The statement by which the primary records the access."""
        condition = Fragment(f"{IS_PRINCIPAL.sql} AND {position.IS_CURRENT}", IS_PRINCIPAL.parameters)
        recorded = self.recording.fragment(Fragment("%s::bigint[]", (IDS,)), Fragment("200"), condition)
        return compile_read(
            {"recorded": recorded}, Fragment("true"), state=position.STORED_VERDICT, plannable=True, rare=False
        )

    def read(self, entry: Entry, parameters: Any, values: Mapping[Placeholder, Any]) -> ReplicaRows | None:
        """The rows; None if the primary has to read them. May raise `django.db.Error` of the primary."""
        if entry.caller is None:
            return None
        statements = [
            Statement(CLAIM_PLANNED_ONCE, claims(entry.caller, entry.owner), plannable=True),
            Statement(position.STORE_POSITION, plannable=True),
            Statement(TAKE_ROLE),
            *self.action.planner_settings_of(parameters),
            self.action.compiled(parameters).statement(values),
        ]
        rows = sessions.read(lambda alias: execute(statements, alias))
        if rows is None:
            return None
        replica, _, ids = str(rows[0][1]).partition("\n")
        if not ids:
            return None
        principal, verdict = self.ask_primary(entry, replica, {**values, IDS: ids})
        if principal == principal_of(entry):  # else the caller is refused, whatever the verdict is
            count_replica_read("served" if verdict == "current" else verdict)
            if verdict == "other":
                position.store_timeline()
            if verdict != "current":
                return None
        return ReplicaRows(rows, principal)

    def ask_primary(self, entry: Entry, replica: str, values: Mapping[Placeholder, Any]) -> tuple[str, str]:
        """Who the caller is, and the verdict about the position of the replica. Records the access if it is current."""
        asked = position.verdict_parameters(entry.owner.pk, replica)
        authentication, role = entry_statements(entry)
        verdict = Statement(position.STORE_VERDICT, asked, plannable=True)
        [row] = execute([authentication, verdict, role, self.record.statement(values)])
        return row[0], row[1]


def selecting_ids(action: List) -> List:
    """The same list, whose statement selects the ids of the subjects in place of recording them."""
    selecting = copy(action)
    selecting.recording = replace(action.recording, insert=SELECT_IDS, parameters=((), ()))
    selecting.state = POSITION_AND_IDS
    selecting.compile = lru_cache(maxsize=256)(selecting.compile_list)
    selecting.compile_filtered_page = lru_cache(maxsize=256)(selecting.compile_with_place)
    return selecting
