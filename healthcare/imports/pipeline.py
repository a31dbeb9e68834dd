"""Imports records batch by batch: check, match, find likely duplicates, write."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from healthcare.imports.importer import Importer
from healthcare.imports.models import Import
from healthcare.imports.options import ImportOptions
from healthcare.imports.reading import ReadRecord
from healthcare.imports.rows import Row
from healthcare.ownership import RecordOwner

BATCH = 1000  # rows


class ImportRun:
    """One import, within a transaction that has been entered as the caller (see `healthcare.rls.context`).

    ```
    run = ImportRun(PatientImporter, owner=owner, caller_id=caller, options=options)
    run.begin()
    for batch in batches(records):
        for row in run.import_batch(batch): ...  # row.result()
    run.finish()
    ```

    A check does the same in a transaction or savepoint that the caller rolls back. With `parent` a run goes on with an
    import that an earlier transaction has begun.

    - `record`: the `Import` of an `apply`; None in a check.
    - `summary`: the number of rows, by status.
    - `patients`: the ids for the access log.
    """
