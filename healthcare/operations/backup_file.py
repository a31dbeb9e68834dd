"""The file of a backup: a tar archive, optionally encrypted by age (https://age-encryption.org/v1).

Its members, in this order:

- `manifest.json`: what the backup is of; see `Manifest`.
- `dump/000001`, `dump/000002` …: a dump of pg_dump in its custom format, in parts, because tar states the size of a
  member before it.
- `end.json`: the SHA-256 of manifest and dump, and with AUDIT_SEAL_KEY a keyed code of it (HMAC-SHA-256, RFC 2104).

So it is written and read as a stream, and without this program `age --decrypt -i KEY FILE | tar --extract --to-stdout
--wildcards 'dump/*' | pg_restore` reads it too.
"""

import hashlib
import hmac
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import IO, Any

from healthcare.operations.backup_errors import BackupError

BACKUP_FORMAT = 1
PART = 4 * 1024 * 1024  # bytes
MANIFEST, END, DUMP = "manifest.json", "end.json", "dump/{:06}"
LARGEST_JSON = 64 * 1024 * 1024  # bytes
PG_DUMP_MAGIC = b"PGDMP"


@dataclass(frozen=True)
class Manifest:
    """`tables` are the rows of each table, `apps` what apps add (healthcare.operations.backup_parts)."""

    format: int
    version: str  # of this project
    postgresql: int  # major version
    taken_at: str  # RFC 3339
    migrations: list[list[str]]  # app and name of those applied
    tables: dict[str, int]
    extensions: dict[str, str]  # the schema of each
    extension_indexes: dict[str, list[str]]  # indexes that need the extension
    apps: dict[str, Any]


class BackupWriter:
    """Writes the archive to a stream; `finish` writes its end."""

    def __init__(self, stream: IO[bytes], manifest: Manifest, time: float) -> None:
        self.tar = tarfile.open(fileobj=stream, mode="w|", bufsize=PART)  # noqa: SIM115
        self.time = int(time)
        self.digest = hashlib.sha256()
        self.parts = self.size = 0
        self.pending = bytearray()
        text = json.dumps(asdict(manifest)).encode()
        self.digest.update(text)
        self.add(MANIFEST, text)

    def write(self, data: bytes) -> None:
        """Add to the dump."""
        self.pending += data
        while len(self.pending) >= PART:
            self.add_part(bytes(self.pending[:PART]))
            del self.pending[:PART]

    def finish(self, key: str) -> None:
        if self.pending:
            self.add_part(bytes(self.pending))
        digest = self.digest.digest()
        end = {"dump_size": self.size, "sha256": digest.hex(), "code": backup_code(key, digest) if key else None}
        self.add(END, json.dumps(end).encode())
        self.tar.close()

    def close(self) -> None:
        """Let go of the stream if an error has ended the archive, since tarfile would write to it when it is closed."""
        with suppress(OSError):
            self.tar.fileobj.close()

    def add_part(self, data: bytes) -> None:
        self.digest.update(data)
        self.size += len(data)
        self.parts += 1
        self.add(DUMP.format(self.parts), data)

    def add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), 0o600, self.time
        self.tar.addfile(member, io.BytesIO(content))


def backup_code(key: str, digest: bytes) -> str:
    return hmac.new(key.encode(), b"healthcare.backup\0" + digest, hashlib.sha256).hexdigest()


class CountingReader(io.RawIOBase):
    """Counts what is read from a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.count = stream, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.count += len(data)
        return data


class BackupReader:
    """Reads an archive from a stream, once: `manifest` at once, then `dump()`, which verifies all when it ends.

    Raises BackupError for whatever is not as `BackupWriter` wrote it.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = CountingReader(stream)
        self.digest = hashlib.sha256()
        self.expected_size = self.dump_size = 0
        self.code: str | None = None
        try:
            self.tar = tarfile.open(fileobj=self.stream, mode="r|", bufsize=PART)  # noqa: SIM115
        except (tarfile.TarError, EOFError) as error:
            raise BackupError("The file is not a backup of `manage.py backup`.") from error
        text = self.read_member(self.next_member(), MANIFEST)
        self.digest.update(text)
        self.manifest = read_manifest(text)

    def dump(self) -> Iterator[bytes]:
        """The dump, in parts. What follows the last part has been verified when the iteration ends."""
        number, size = 0, 0
        while (member := self.next_member()).name != END:
            number += 1
            part = self.read_member(member, DUMP.format(number))
            self.digest.update(part)
            size += len(part)
            yield part
        self.verify_end(self.read_member(member, END), size)

    def verify_end(self, text: bytes, size: int) -> None:
        try:
            end = json.loads(text)
            sha256, self.code = bytes.fromhex(end["sha256"]), end["code"]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged() from error
        if not hmac.compare_digest(sha256, self.digest.digest()) or end["dump_size"] != size:
            raise damaged()
        self.dump_size = size
        if self.next_member(at_end=True) is not None:
            raise damaged()
        while self.stream.read(PART):
            pass
        padded = -(-(self.expected_size + 2 * tarfile.BLOCKSIZE) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        if self.stream.count != padded:
            raise damaged()

    def next_member(self, *, at_end: bool = False) -> Any:
        try:
            member = self.tar.next()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise damaged() from error
        if member is None and not at_end:
            raise damaged()
        if member is not None:
            self.expected_size += tarfile.BLOCKSIZE * (1 + -(-member.size // tarfile.BLOCKSIZE))
        return member

    def read_member(self, member: tarfile.TarInfo, name: str) -> bytes:
        limit = PART if name.startswith("dump/") else LARGEST_JSON
        if member.name != name or not member.isreg() or member.size > limit:
            raise damaged()
        try:
            content = self.tar.extractfile(member)
            data = content.read() if content else b""
        except (tarfile.TarError, EOFError, OSError) as error:
            raise damaged() from error
        if len(data) != member.size:
            raise damaged()
        return data

    def verify_code(self, key: str) -> bool:
        """Whether the key has made the code; False also where the file has none."""
        return self.code is not None and hmac.compare_digest(self.code, backup_code(key, self.digest.digest()))


def read_manifest(text: bytes) -> Manifest:
    try:
        content = json.loads(text)
        number = content["format"]
        if isinstance(number, int) and number > BACKUP_FORMAT:
            raise BackupError(
                f"The backup has format {number}, which a newer release of this project wrote; restore it with that "
                "release."
            )
        return Manifest(**{field.name: content[field.name] for field in fields(Manifest)})
    except (ValueError, KeyError, TypeError) as error:
        raise damaged() from error


def damaged() -> BackupError:
    return BackupError("The file is damaged or was altered: it is not what `manage.py backup` wrote.")
