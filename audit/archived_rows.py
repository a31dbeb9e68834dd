"""Which rows are in an archive: what `verify_audit` accepts as removed. Each record is signed with AUDIT_SEAL_KEY."""

import hashlib
import hmac
import json
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from django.db import connection

from audit.models import Archive
from audit.seals import TamperingError
from audit.tables import BELOW_EVERY_ID


def pack(ids: Iterable[int]) -> bytes:
    """Ids in ascending order, as the compressed differences between them."""
    ordered = array("q", sorted(ids))
    differences = array("q", (value - previous for previous, value in zip([0, *ordered], ordered, strict=False)))
    return zlib.compress(differences.tobytes())


def unpack(packed: bytes | memoryview) -> Sequence[int]:
    total, ids = 0, array("q")
    for difference in array("q", zlib.decompress(bytes(packed))):
        total += difference
        ids.append(total)
    return ids


def contains(ids: Sequence[int], row_id: int) -> bool:
    """Whether these ids in ascending order hold this one."""
    place = bisect_left(ids, row_id)
    return place < len(ids) and ids[place] == row_id


def archive_code(key: bytes, archive: Archive) -> str:
    """The code of a record, over all its columns."""
    times = [archive.at.timestamp(), archive.before.timestamp()]
    names = [archive.file, archive.digest, archive.table]
    content = ["archive", times, names, archive.after_id, archive.last_id, archive.row_count]
    lists = [hashlib.sha256(bytes(packed)).hexdigest() for packed in (archive.kept, archive.earlier)]
    return hmac.new(key, json.dumps([content, lists]).encode(), hashlib.sha256).hexdigest()


class ArchivedRows:
    """The rows in archives, by table. Raises TamperingError for a record that was altered or does not follow from the
    one before it."""

    def __init__(self, key: bytes) -> None:
        self.ranges: dict[str, list[tuple[int, Sequence[int], Sequence[int]]]] = {}
        if Archive._meta.db_table not in connection.introspection.table_names():
            return  # a restored backup of a release that had no archives
        for archive in Archive.objects.order_by("id"):
            if not hmac.compare_digest(archive.code, archive_code(key, archive)):
                raise TamperingError(f"audit_archive {archive.pk} was altered.")
            if archive.after_id != self.last_id(archive.table):
                raise TamperingError(f"audit_archive {archive.pk} was altered, or one before it is missing.")
            entry = (archive.last_id, unpack(archive.kept), unpack(archive.earlier))
            self.ranges.setdefault(archive.table, []).append(entry)

    def last_id(self, table: str) -> int:
        """The id up to which the rows of a table are in archives, but for those that were kept."""
        ranges = self.ranges.get(table)
        return ranges[-1][0] if ranges else BELOW_EVERY_ID

    def hold(self, table: str, row_id: int) -> bool:
        """Whether an archive holds this row."""
        ranges = self.ranges.get(table, [])
        if row_id > self.last_id(table):
            return False
        number = next(number for number, (last, _, _) in enumerate(ranges) if row_id <= last)
        if not contains(ranges[number][1], row_id):
            return True
        return any(contains(earlier, row_id) for _, _, earlier in ranges[number + 1 :])
