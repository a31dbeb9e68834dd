"""What the file of a person consists of. An app adds a part by `register_file_part` when it is ready."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from patients.models import Patient

ANOTHER = "another record"  # instead of the id of a record of somebody else


@dataclass(frozen=True)
class Subject:
    """The person whom a file is about: a patient, and the records of the same person that were merged into it.

    names: whether the file names the users who read or changed something, beside what they did it as.
    """

    patient: Patient
    record_ids: Sequence[int]  # that of the patient first
    names: bool = False

    def own(self, record_id: int | None) -> int | str | None:
        """The id of a record if it is one of this person's. The ids of others are in no file."""
        return record_id if record_id is None or record_id in self.record_ids else ANOTHER

    def with_name(self, row: dict[str, Any], **users: str | None) -> dict[str, Any]:
        """The row, with these names of users if the file names any."""
        return row | users if self.names else row


@dataclass(frozen=True)
class Section:
    """A list of rows: a member of the part's JSON object, and a table of the readable page.

    columns: what the readable page shows of a row: the headings by the names of members.
    table: the table of the database to which the member `row` of each row refers, if seals cover that table.
    upright: whether the page shows each row as a table of its own, with the columns below each other.
    """

    name: str
    title: str
    rows: Iterable[Mapping[str, Any]]
    columns: Mapping[str, str]
    explanation: str = ""
    table: str = ""
    upright: bool = False


class FilePart:
    """A file in JSON, `<name>.json`, whose sections the readable page shows as well.

    tables: the tables of which it has the rows about the person; a test compares them with those of the database.
    Its methods run with the rights of the tables' owner, so every query names the records of the person.
    """

    name: ClassVar[str]
    tables: ClassVar[Sequence[str]] = ()

    def sections(self, subject: Subject) -> Sequence[Section]:
        raise NotImplementedError


@dataclass
class Register:
    parts: dict[str, FilePart] = field(default_factory=dict)  # by their names

    def in_order(self) -> list[FilePart]:
        """The parts by name, but the patient's record first: that is the order of the readable page."""
        return sorted(self.parts.values(), key=lambda part: (part.name != "patient", part.name))


REGISTER = Register()


def register_file_part(part: FilePart) -> None:
    """Add a part, or replace the one of the same name: Django may call `AppConfig.ready` again."""
    REGISTER.parts[part.name] = part
