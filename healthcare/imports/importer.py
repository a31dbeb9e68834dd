"""What a domain declares so that its records can be imported."""

from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar

from django.db.models import Model, QuerySet
from django.utils.module_loading import autodiscover_modules
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from healthcare.api.serializers import RecordSerializer
from healthcare.exports.models import ServerId
from healthcare.imports.rows import Row
from healthcare.ownership import RecordOwner

if TYPE_CHECKING:
    from healthcare.imports.pipeline import ImportRun


LONGEST_REQUEST = 120  # seconds of a request that imports


class Importer:
    """Imports records of one kind. An instance serves one `ImportRun`, which is its `run`.

    - `kind`: as in the path and in `Import.kind`, such as "patients"; the model's `import_kind`.
    - `serializer_class`: validates each row, as it validates a POST.
    - `prepares_without_database`: neither `prepare` nor the serializer's validation runs a query, so that a batch can
      be checked while the one before it is written.
    - `extra_columns`: columns beside the serializer's fields, which `prepare` takes out of `Row.values`.
    - `searched_tables`: the tables in which `match` and `find_likely` search, and to which an import adds rows.
    """

    kind: ClassVar[str]
    serializer_class: ClassVar[type[RecordSerializer]]
    extra_columns: ClassVar[Set[str]] = frozenset()
    prepares_without_database: ClassVar[bool] = False
    searched_tables: ClassVar[Sequence[str]] = ()
    creates_patients: ClassVar[bool] = False  # whether the records are patients

    def __init__(self, run: "ImportRun") -> None:
        self.run = run
        self.own_server = ServerId.objects.own()

    @property
    def model(self) -> type[Model]:
        return self.serializer_class.Meta.model

    @property
    def lock_owner(self) -> int:
        """Whose imports wait for each other: those of one owner, or those of everybody for 0."""
        return self.run.owner_id

    @property
    def longest_run(self) -> int:
        """How many seconds a request may take for an import. A file that takes longer goes by the command."""
        return LONGEST_REQUEST

    def scope(self) -> QuerySet:
        """The records that the owner may change by a PATCH."""
        raise NotImplementedError

    def lock(self) -> None:
        """Take the advisory locks that keep others from adding the same records until the transaction ends. Called
        once, before the first batch of an `apply`."""

    def prepare(self, rows: Sequence[Row]) -> None:
        """Turn the values of a batch into bodies of POSTs: resolve references in few statements, take out
        `extra_columns`. A row that cannot be resolved fails (`row.refuse`)."""

    def match(self, rows: Sequence[Row]) -> None:
        """Set `matches` and `keys` of these rows, from their values, by few statements for all of them. Called with
        `match=identifier` only. Values may be invalid; those match nothing."""

    def prepare_search(self, row: Row) -> None:
        """Called in another thread, ahead of `find_likely`, with a row and its unsaved record; may set `row.prepared`.
        Runs no query."""

    def find_likely(self, rows: Sequence[Row]) -> list[list[int | Row]]:
        """For each of these rows, which create records, the ids of records that are likely the same, and the earlier
        ones of these rows that are. `row.record` holds the unsaved record."""
        return [[] for _ in rows]

    def may_update(self, row: Row) -> None:
        """Refuse the row if the caller may not change `row.record`, the stored record that it matches."""

    def after_write(self, rows: Sequence[Row]) -> None:
        """Called with the rows of a batch that were created or updated, whose `record_id` is set."""

    def finish(self) -> None:
        """Called once after the last batch of an `apply`, before it is committed. May raise an APIException, which
        stops the import."""

    @classmethod
    def patients_in(cls, results: Iterable[dict[str, Any]]) -> set[int]:
        """The ids of the patients whom these results (`Row.result`) name, for the access log."""
        return set()

    @classmethod
    def owned_patients(cls, owner: RecordOwner, patient_ids: Set[int]) -> Set[int]:
        """Those of these patients who belong to the owner today."""
        return patient_ids

    @classmethod
    def check_undo(cls, request: Request, owner_id: int) -> None:
        """Raises PermissionDenied (403) if the caller may not delete what an import of this owner has created."""

    def valid_value(self, row: Row, name: str) -> Any:
        """The validated value of a field; None if it is absent, empty or invalid."""
        if row.checked and row.checked[0] is not None:
            return row.checked[0].get(name)
        if not row.values.get(name):
            return None
        try:
            return self.run.checks.serializer.fields[name].run_validation(row.values[name])
        except ValidationError:
            return None

    def new_record(self, validated: dict[str, Any]) -> Model:
        """The unsaved record of validated values, as the serializer's `create` would make it."""
        return self.model(created_by_id=self.run.owner.pk, **validated)


def importers() -> dict[str, type[Importer]]:
    """The importer of each kind, from the module `imports` of each app."""
    autodiscover_modules("imports")
    return {importer.kind: importer for importer in Importer.__subclasses__()}
