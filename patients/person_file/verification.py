"""Verifying the file of a person by its manifest, without the database."""

import hashlib
import json
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from patients.person_file.writer import MANIFEST, PERSON_FILE_FORMAT

LARGEST_MANIFEST = 1024 * 1024  # bytes
MOST_PARTS = 1_000
READ_BYTES = 1024 * 1024


class PersonFileError(Exception):
    """The file is no file of a person, or not as it was written. The message says so in one sentence."""


def verify_person_file(path: Path) -> tuple[str, dict[str, Any]]:
    """The SHA-256 of the manifest, and the manifest. Raises PersonFileError, and OSError if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return verify_parts(archive)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise PersonFileError("This is no ZIP archive, or a damaged one.") from error


def verify_parts(archive: zipfile.ZipFile) -> tuple[str, dict[str, Any]]:
    entries = archive.infolist()
    if len(entries) > MOST_PARTS:
        raise PersonFileError(f"It has more than {MOST_PARTS} parts.")
    names = Counter(entry.filename for entry in entries)
    for name, count in sorted(names.items()):
        if count > 1:
            raise PersonFileError(f"The part {printable_file_name(name)} is there {count} times.")
    if MANIFEST not in names:
        raise PersonFileError(f"The part {MANIFEST} is missing.")
    digest, text = read_person_file_manifest(archive)
    manifest, listed = parse_manifest(text)
    if missing := sorted(listed.keys() - names.keys()):
        raise PersonFileError(f"The part {printable_file_name(missing[0])} is missing.")
    if extra := sorted(names.keys() - listed.keys() - {MANIFEST}):
        raise PersonFileError(f"The part {printable_file_name(extra[0])} is not in the manifest.")
    for name, (size, expected) in sorted(listed.items()):
        if digest_of_part(archive, name, size) != expected:
            raise PersonFileError(f"The part {printable_file_name(name)} is not as it was written.")
    return digest, manifest


def printable_file_name(name: str) -> str:
    """A name as ASCII of bounded length, for a terminal."""
    return ascii(name[:100])


def read_person_file_manifest(archive: zipfile.ZipFile) -> tuple[str, bytes]:
    with archive.open(MANIFEST) as part:
        text = part.read(LARGEST_MANIFEST + 1)
    if len(text) > LARGEST_MANIFEST:
        raise PersonFileError("The manifest is too large.")
    return hashlib.sha256(text).hexdigest(), text


def parse_manifest(text: bytes) -> tuple[dict[str, Any], dict[str, tuple[int, str]]]:
    """The manifest, and the size and the SHA-256 of each part by its name."""
    try:
        manifest = json.loads(text)
        if manifest["format"] != PERSON_FILE_FORMAT:
            raise ValueError
        parts = [(str(part["name"]), int(part["size"]), str(part["sha256"])) for part in manifest["parts"]]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise PersonFileError(f"The manifest is not that of the format {PERSON_FILE_FORMAT}.") from error
    listed = {name: (size, digest) for name, size, digest in parts}
    if len(listed) < len(parts) or MANIFEST in listed:
        raise PersonFileError("The manifest lists a part twice, or itself.")
    return manifest, listed


def digest_of_part(archive: zipfile.ZipFile, name: str, size: int) -> str | None:
    """The SHA-256 of a part; None if it has another size, of which no more is read."""
    found, left = hashlib.sha256(), size
    with archive.open(name) as part:
        while data := part.read(READ_BYTES):
            left -= len(data)
            if left < 0:
                return None
            found.update(data)
    return found.hexdigest() if left == 0 else None
