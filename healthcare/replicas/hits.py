"""Search on replicas: they look up the hits, whose records the primary then reads."""

from typing import Any, Self

from django.db import connection, connections, transaction
from django.db.models import QuerySet

from healthcare.operations.metrics import count_replica_read
from healthcare.ownership import RecordOwner
from healthcare.replicas import position, sessions
from healthcare.rls import ROLE
from healthcare.rls.context import CLAIM, TAKE_ROLE, claims, without_role
from healthcare.search.hits import Hits
from healthcare.search.statements import PageOfHits

# Within the request's transaction, whose role has no rights on what is known about replicas.
ASK_PRIMARY = f"""SELECT set_config('role', 'none', true);
{position.STORE_VERDICT};
SELECT {position.STORED_VERDICT}, set_config('role', '{ROLE}', true)"""


class ReplicaHits(Hits):
    """Hits of an authenticated request. The primary looks them up where a replica may lack a change of its owner's."""

    caller: int
    record_owner: RecordOwner

    @classmethod
    def of(cls, queryset: QuerySet, view: Any, text: str, *, hidden: bool) -> Self:
        hits = super().of(queryset, view, text, hidden=hidden)
        hits.caller, hits.record_owner = view.request.user.pk, view.owner
        return hits

    def look_up(self, page: PageOfHits) -> dict[int, int]:
        if sessions.is_usable() and connection.in_atomic_block:
            found = sessions.read(lambda alias: self.look_up_on(connections[alias], page))
            if found is not None and self.is_current(found[1]):
                return found[0]
        return super().look_up(page)

    def look_up_on(self, replica: Any, page: PageOfHits) -> tuple[dict[int, int], str]:
        """The hits, and the position of the replica before it looked them up."""
        with transaction.atomic(replica.alias), replica.cursor() as cursor:
            cursor.execute(f"{CLAIM}; {position.STORE_POSITION}", claims(self.caller, self.record_owner))
            [(stored,)] = cursor.fetchall()
            cursor.execute(TAKE_ROLE)
            vars(self).pop("query_terms", None)
            self.database = replica
            try:
                return super().look_up(page), stored
            finally:  # what comes next may be for the primary
                vars(self).pop("query_terms", None)
                self.database = connection

    def is_current(self, stored: str) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(ASK_PRIMARY, position.verdict_parameters(self.owner, stored))
            [(verdict, _)] = cursor.fetchall()
        if verdict == "other":
            with without_role():
                position.store_timeline()
        count_replica_read("served" if verdict == "current" else verdict)
        return bool(verdict == "current")
