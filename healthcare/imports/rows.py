"""The rows of an import: what was read, and what became of it."""

from dataclasses import dataclass, field
from typing import Any

from healthcare.imports.models import LineStatus

Problem = dict[str, str]  # `pointer`, `code` and `detail`, as in the `errors` of a problem
Likely = dict[str, int]  # `{"id": …}` of a record, or `{"line": …}` of an earlier row of the file

LINE_STATUSES: tuple[str, ...] = tuple(LineStatus.values)
CREATED, UPDATED, UNCHANGED, SKIPPED, LIKELY, FAILED = LINE_STATUSES


@dataclass(slots=True, eq=False)
class Row:
    """A record of the file on its way into the database.

    - `values` is the body that a POST or PATCH of this record would have; an importer may change it in `prepare`.
    - `server` and `old_id` are the file's columns `server` and `id`.
    - `matches` are the ids of the records on file that the row names, which `match` sets.
    - `keys` are what the row has in common with every row that names the same record, such as its numbers; rows of one
      file with a common key are the same record twice.
    - `checked` is what the serializer says of `values` as a new record, if it was asked ahead: the validated values and
      the problems.
    - `record` is the unsaved record of a row that creates one, or the stored one of a row that updates.
    - `text` is a record to create as COPY reads it, if it was made ahead; `prepared` is what the importer
      has prepared for the search for likely duplicates.
    - `status` is None until it is decided.
    """

    line: int
    values: dict[str, Any]
    server: str = ""
    old_id: int | None = None
    matches: list[int] = field(default_factory=list)
    keys: frozenset[Any] = frozenset()
    checked: tuple[dict[str, Any] | None, list[Problem]] | None = None
    record: Any = None
    text: str | None = None
    prepared: Any = None
    status: str | None = None
    record_id: int | None = None
    version: int | None = None
    errors: list[Problem] = field(default_factory=list)
    likely: list[Likely] = field(default_factory=list)

    def fail(self, *errors: Problem) -> None:
        self.status, self.record_id = FAILED, None
        self.errors += errors

    def refuse(self, field_name: str, code: str, detail: str) -> None:
        """Fail with one error of a field; of the whole row for an empty name."""
        self.fail({"pointer": f"/{field_name}" if field_name else "", "code": code, "detail": detail})

    def result(self) -> dict[str, Any]:
        """The row in the answer, as JSON."""
        return {
            "line": self.line,
            "status": self.status,
            "id": self.record_id,
            "errors": self.errors,
            "likely": self.likely,
        }
