"""The file of an archive: JSON lines in gzip, with a code over every byte. It is written and verified without the
database.

The first line says what the file is, each further one holds a row as it was (its columns in jsonb's canonical form,
times in UTC), and the last one the number of rows of each table. A second gzip member of fixed size holds an HMAC
(SHA-256, keyed with AUDIT_SEAL_KEY) over all bytes before it, so `zcat FILE` prints the lines with the code at their
end, and any altered, removed, added or missing byte is detected.
"""

import gzip
import hashlib
import hmac
import json
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

ARCHIVE_FORMAT = "healthcare-archive-1"
READ_BYTES = 1024 * 1024  # bytes


class ArchiveError(Exception):
    """The file is no archive, or not as it was written. The message says so in one sentence."""


def file_code(key: bytes, digest: bytes) -> str:
    return hmac.new(key, ARCHIVE_FORMAT.encode() + b"\0" + digest, hashlib.sha256).hexdigest()


def trailer(code: str) -> bytes:
    """A gzip member (RFC 1952) with the code, stored without compression: the same bytes for the same code."""
    line = json.dumps({"hmac-sha256": code}).encode() + b"\n"
    stored = struct.pack("<BHH", 1, len(line), len(line) ^ 0xFFFF) + line
    header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return header + stored + struct.pack("<II", zlib.crc32(line), len(line))


TRAILER_LENGTH = len(trailer("0" * 64))


class HashingFile:
    """Hashes what is written to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class ArchiveWriter:
    """Writes the lines of an archive; `finish` adds the number of rows and the code, and waits until all is on disk."""

    def __init__(self, file: BinaryIO, key: bytes, header: dict[str, Any]) -> None:
        self.file, self.key, self.counts = file, key, Counter[str]()
        self.hashing = HashingFile(file)
        self.gzip = gzip.GzipFile(filename="", mode="wb", fileobj=self.hashing, mtime=0, compresslevel=6)
        self.gzip.write(json.dumps({"format": ARCHIVE_FORMAT, **header}).encode() + b"\n")

    def add(self, table: str, text: str) -> None:
        """Add a row, given as JSON."""
        self.gzip.write(f'{{"table": "{table}", "row": {text}}}\n'.encode())
        self.counts[table] += 1

    def finish(self) -> None:
        self.gzip.write(json.dumps({"rows": dict(sorted(self.counts.items()))}).encode() + b"\n")
        self.gzip.close()
        self.file.write(trailer(file_code(self.key, self.hashing.hash.digest())))
        self.file.flush()
        os.fsync(self.file.fileno())


def verify_file(path: Path, key: bytes) -> tuple[str, dict[str, Any], dict[str, int]]:
    """Verify an archive; its SHA-256, its first line, and its number of rows by table. Raises ArchiveError."""
    altered = ArchiveError(
        f"{path} was altered or truncated, is no archive, or was written with another AUDIT_SEAL_KEY."
    )
    with path.open("rb") as file:
        remaining = os.fstat(file.fileno()).st_size - TRAILER_LENGTH
        content = hashlib.sha256()
        while remaining > 0 and (chunk := file.read(min(READ_BYTES, remaining))):
            content.update(chunk)
            remaining -= len(chunk)
        end = file.read(TRAILER_LENGTH + 1)
        if remaining or not hmac.compare_digest(end, trailer(file_code(key, content.digest()))):
            raise altered
        content.update(end)
    lines = read_lines(path)
    try:
        header, counts, stated = next(lines), Counter[str](), None
        for line in lines:
            if "row" in line:
                counts[line["table"]] += 1
            stated = line.get("rows", stated)
    except (OSError, EOFError, StopIteration, ValueError, KeyError, AttributeError, zlib.error) as error:
        raise altered from error
    if header.get("format") != ARCHIVE_FORMAT or stated != dict(counts):
        raise altered
    return content.hexdigest(), header, dict(counts)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") as lines:
        for line in lines:
            yield json.loads(line)
