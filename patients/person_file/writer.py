"""Writes the file of a person: a ZIP archive of JSON parts, a readable page over them, and a manifest."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Any

from django.db import connection
from django.template.loader import get_template
from django.utils import timezone
from rest_framework.utils.encoders import JSONEncoder

from audit.history import history_kept_since
from healthcare.api.fields import DateTimeField
from patients.erasure import merged_record_ids
from patients.models import Patient
from patients.person_file.parts import REGISTER, Section, Subject
from patients.person_file.seals import seal_sections

PERSON_FILE_FORMAT = "healthcare-person-file-1"
MANIFEST, PAGE = "manifest.json", "index.html"
MOST_ROWS_ON_PAGE = 1_000  # of one table; the JSON has all
FIRST_TIME_OF_ZIP = (1980, 1, 1, 0, 0, 0)
READABLE_BY_OWNER = 0o100600 << 16  # the mode of a part that is unpacked on Unix


class TooLargeError(Exception):
    """The parts are larger than the limit."""


@dataclass
class PageTable:
    """A table of the readable page: the first rows of a section."""

    section: Section
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    count: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        self.count += 1
        if len(self.rows) < MOST_ROWS_ON_PAGE:
            self.rows.append(row)

    def headings(self) -> list[str]:
        return [heading for _, heading in self.filled_columns()]

    def filled_columns(self) -> list[tuple[str, str]]:
        """The columns that any row has: those of users' names only in a file that names users."""
        members = {name for row in self.rows for name in row}
        return [(name, heading) for name, heading in self.section.columns.items() if name in members]

    def cells(self) -> list[list[Any]]:
        return [[as_lines(row.get(name)) for name, _ in self.filled_columns()] for row in self.rows]

    def pairs(self) -> list[list[tuple[str, Any]]]:
        """Each row as pairs of a heading and a value, for a section that stands upright."""
        headings = self.headings()
        return [list(zip(headings, cells, strict=True)) for cells in self.cells()]


def as_lines(value: Any) -> list[str]:
    """The lines of a cell. The members of an object are `name: value`, a change is `before → after`."""
    if value is None or value in ("", [], {}):
        return []
    if isinstance(value, Mapping):
        return [f"{name}: {as_text(item)}" for name, item in value.items()]
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return as_text(value).split("\n")


def as_text(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {as_text(item)}" for name, item in value.items() if item not in ("", None))
    if isinstance(value, list):
        return " → ".join(as_text(item) for item in value) if len(value) == 2 else "; ".join(map(as_text, value))
    return str(value)


class PersonFileArchive:
    """Writes parts one after the other, and remembers the size and the SHA-256 of each.

    most: how many bytes the parts may have together, before they are compressed.
    """

    def __init__(self, file: IO[bytes], most: int | None) -> None:
        self.zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self.left = most
        self.parts: list[dict[str, Any]] = []

    @contextmanager
    def part(self, name: str) -> Iterator["ArchivePart"]:
        entry = zipfile.ZipInfo(name, FIRST_TIME_OF_ZIP)
        entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, READABLE_BY_OWNER, 3
        with self.zip.open(entry, "w", force_zip64=True) as file:
            part = ArchivePart(self, file)
            yield part
        self.parts.append({"name": name, "size": part.size, "sha256": part.hash.hexdigest()})

    def take(self, size: int) -> None:
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise TooLargeError


class ArchivePart:
    def __init__(self, archive: PersonFileArchive, file: IO[bytes]) -> None:
        self.archive, self.file = archive, file
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, text: str) -> None:
        data = text.encode()
        self.archive.take(len(data))
        self.size += len(data)
        self.hash.update(data)
        self.file.write(data)


def as_json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, cls=JSONEncoder)


def write_person_file(file: IO[bytes], patient: Patient, *, names: bool = False, most: int | None = None) -> str:
    """Write the file of a patient who was not merged into another. Returns the SHA-256 of its manifest.

    Call it with the rights of the tables' owner and in one transaction; `begin_snapshot` lets that read one state.
    Raises TooLargeError if the parts have more than `most` bytes; the file is then incomplete.
    """
    subject = Subject(patient, merged_record_ids([patient.pk]), names)
    about = {
        "format": PERSON_FILE_FORMAT,
        "written_at": DateTimeField().to_representation(timezone.now()),
        "patient": patient.pk,
        "records": subject.record_ids,
        "names": names,
        "archived_before": archived_before(),
    }
    archive, tables = PersonFileArchive(file, most), dict[str, list[PageTable]]()
    sealed: dict[str, list[int]] = {}
    with archive.zip:
        for part in REGISTER.in_order():
            tables[part.name] = write_part(archive, part.name, part.sections(subject), sealed)
        tables["seals"] = write_part(archive, "seals", seal_sections(sealed), {})
        write_page(archive, about, tables)
        return write_manifest(archive, about)


def begin_reading_one_state() -> None:
    """Let the transaction, of which this is the first statement, read one state however long it takes."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def archived_before() -> Any:
    since = history_kept_since()
    return since and DateTimeField().to_representation(since)


def write_part(archive: PersonFileArchive, name: str, sections: Any, sealed: dict[str, list[int]]) -> list[PageTable]:
    """Write a part, add the rows that seals may cover to `sealed`, and return its tables for the page."""
    tables = []
    with archive.part(f"{name}.json") as part:
        for number, section in enumerate(sections):
            tables.append(PageTable(section))
            part.write(f"{',' if number else '{'}\n{as_json_text(section.name)}: [")
            for index, row in enumerate(section.rows):
                part.write(f"{',' if index else ''}\n{as_json_text(row)}")
                tables[-1].add(row)
                if section.table:
                    sealed.setdefault(section.table, []).append(row["row"])
            part.write("]")
        part.write("\n}\n")
    return tables


def write_page(archive: PersonFileArchive, about: Mapping[str, Any], tables: Mapping[str, list[PageTable]]) -> None:
    page_tables = [table for table in chain(*tables.values()) if table.section.columns]
    with archive.part(PAGE) as part:
        part.write(get_template("patients/person_file.html").render({"about": about, "tables": page_tables}))


def write_manifest(archive: PersonFileArchive, about: Mapping[str, Any]) -> str:
    text = json.dumps({**about, "parts": sorted(archive.parts, key=lambda part: part["name"])}, indent=2) + "\n"
    with archive.part(MANIFEST) as part:
        part.write(text)
    return hashlib.sha256(text.encode()).hexdigest()
