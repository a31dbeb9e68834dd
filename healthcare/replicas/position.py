"""How far a replica is, and whether the primary has changed records since."""

from collections.abc import Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Q

from healthcare.model_fields import LARGEST_ID

MAXIMUM_LAG = 10  # seconds since the last commit that a replica has replayed
DIRECTORY = 0  # the owner in OwnerWrite of records that belong to nobody: the doctors
# Transactions. A replica further behind than the first is not read, so `tidy` may remove rows older than the second.
MOST_BEHIND, KEPT_TRANSACTIONS = 1_000_000, 2_000_000
TIMELINE = (
    "concat((SELECT system_identifier FROM pg_control_system()), ' ', left(pg_walfile_name(pg_current_wal_lsn()), 8))"
)

# On the replica, before the statement that reads: each statement takes a later snapshot than the one before it. `xmin`
# is the first transaction that had not ended then. The timeline is a row that comes with the WAL.
STORE_POSITION = """SELECT set_config('replicas.position', json_build_object(
    'xmin', pg_snapshot_xmin(pg_current_snapshot())::text,
    'lsn', pg_last_wal_replay_lsn(),
    'at', extract(epoch FROM pg_last_xact_replay_timestamp()),
    'cluster', (SELECT system_identifier FROM pg_control_system())::text,
    'timeline', (SELECT timeline FROM replicas_source)
)::text, true)"""
STORED_POSITION = "current_setting('replicas.position', true)"

# On the primary, as the login role. `current`: the replica lacks no change of the owner's records. `behind`: it
# may. `other`: it follows another primary, or none has said yet which timeline this is. `at` is the primary's clock,
# which the commits carry. A transaction that has changed something itself is in no commit yet.
STORE_VERDICT = f"""SELECT set_config('replicas.verdict', CASE
    WHEN position->>'timeline' IS DISTINCT FROM {TIMELINE}
        OR position->>'cluster' IS DISTINCT FROM split_part({TIMELINE}, ' ', 1) THEN 'other'
    WHEN (position->>'lsn')::pg_lsn >= pg_current_wal_insert_lsn() AND pg_current_xact_id_if_assigned() IS NULL
        THEN 'current'
    WHEN extract(epoch FROM now()) - (position->>'at')::numeric BETWEEN -1 AND {MAXIMUM_LAG}
        AND (position->>'xmin')::bigint > pg_snapshot_xmax(pg_current_snapshot())::text::bigint - {MOST_BEHIND}
        AND NOT EXISTS (
            SELECT FROM replicas_ownerwrite write WHERE write.owner IN (%s, {DIRECTORY})
            AND write.transaction >= (position->>'xmin')::bigint
        ) THEN 'current'
    ELSE 'behind' END, true)
FROM (VALUES (%s::json)) AS replica(position)"""  # noqa: S608
STORED_VERDICT = "current_setting('replicas.verdict', true)"
IS_CURRENT = f"{STORED_VERDICT} = 'current'"

STORE_TIMELINE = f"""
INSERT INTO replicas_source (id, timeline) VALUES (1, {TIMELINE})
ON CONFLICT (id) DO UPDATE SET timeline = excluded.timeline WHERE replicas_source.timeline <> excluded.timeline
"""  # noqa: S608


def verdict_parameters(owner: int | None, position: str) -> Sequence[Any]:
    return [owner if owner is not None else LARGEST_ID, position]


def is_old() -> Q:
    """Of the rows of OwnerWrite: which no position that is still accepted needs."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        return Q(transaction__lt=cursor.fetchone()[0] - KEPT_TRANSACTIONS)


def store_timeline() -> None:
    """Write the primary's timeline, which it has changed with its promotion. Replicas have it once they follow."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(STORE_TIMELINE)
