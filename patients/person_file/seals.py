"""Which seals cover the rows of a person's file (see `audit.seals`).

A seal names every row that it covers, of all patients. The file has of a seal its number, time and code, and of each of
the person's rows the row's own code: with AUDIT_SEAL_KEY the operator can compute that from the row, and find the seal.
The codes are keyed, so that they say nothing about the rows.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audit.models import Seal
from audit.seals import codes_of
from healthcare.api.fields import DateTimeField
from patients.person_file.parts import Section

SEALS_AT_ONCE = 50  # of up to 1,000 rows each


def seal_sections(rows: Mapping[str, Sequence[int]]) -> list[Section]:
    """The seals over these rows, by table and id, and the code of each row; of a row without a seal both are null."""
    covered = {table: seals_by_row(table, sorted(keys)) for table, keys in rows.items()}
    return [
        Section(
            "seals",
            "Seals over history and accesses",
            describe_seals(covered),
            {"seal": "Seal", "at": "Time", "table": "Table", "code": "Code"},
            explanation="They let the operator of this service prove that these rows have not been changed since.",
        ),
        Section("rows", "Sealed rows", describe_rows(covered), {}),
    ]


def seals_by_row(table: str, keys: Sequence[int]) -> dict[int, int | None]:
    """The id of the seal that may cover each row, which is the first whose last row is not before it."""
    ends = list(Seal.objects.filter(table=table).order_by("id").values_list("last_id", "pk"))
    last_ids = [last_id for last_id, _ in ends]
    found: dict[int, int | None] = {}
    for key in keys:
        place = bisect_left(last_ids, key)
        found[key] = ends[place][1] if place < len(ends) else None
    return found


def describe_seals(covered: Mapping[str, Mapping[int, int | None]]) -> Iterator[dict[str, Any]]:
    as_time = DateTimeField().to_representation
    for by_row in covered.values():
        for seal in each_seal(by_row, "codes", "row_ids"):
            yield {"seal": seal.pk, "at": as_time(seal.at), "table": seal.table, "code": seal.code}


def describe_rows(covered: Mapping[str, Mapping[int, int | None]]) -> Iterator[dict[str, Any]]:
    for table, by_row in covered.items():
        keys_of: dict[int, list[int]] = {}
        for key, seal_id in by_row.items():
            if seal_id is None:
                yield {"table": table, "row": key, "seal": None, "code": None}
            else:
                keys_of.setdefault(seal_id, []).append(key)
        for seal in each_seal(by_row):
            codes = codes_of(seal)
            for key in keys_of[seal.pk]:
                code = codes.get(key)
                yield {"table": table, "row": key, "seal": seal.pk if code else None, "code": code and code.hex()}


def each_seal(by_row: Mapping[int, int | None], *deferred: str) -> Iterator[Seal]:
    wanted = sorted({seal_id for seal_id in by_row.values() if seal_id is not None})
    for start in range(0, len(wanted), SEALS_AT_ONCE):
        yield from Seal.objects.filter(pk__in=wanted[start : start + SEALS_AT_ONCE]).defer(*deferred).order_by("pk")
