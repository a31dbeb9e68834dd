"""Migration operations of search. Each can be repeated, which is what `manage.py rebuild_search` does."""

import sys
from dataclasses import asdict
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from healthcare.search import triggers, vocabulary
from healthcare.search.extensions import Extensions, create_missing
from healthcare.search.index import Index
from healthcare.search.normalization import DROP_FUNCTIONS, functions

WITHOUT = (
    "Search finds names by their beginnings, not by similarity, until an administrator of this database has run: {}\n"
    "Then run: manage.py rebuild_search\n"
)


class SearchOperation(Operation):
    reversible = True

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        self.put_up(schema_editor.connection)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        self.take_down(schema_editor.connection)

    def put_up(self, connection: BaseDatabaseWrapper) -> None:
        raise NotImplementedError

    def take_down(self, connection: BaseDatabaseWrapper) -> None:
        pass


class CreateExtensions(SearchOperation):
    """pg_trgm, btree_gin and unaccent, where the database user may create them. Reversing leaves them: others may use
    them too."""

    def put_up(self, connection: BaseDatabaseWrapper) -> None:
        if missing := create_missing(connection):
            sys.stderr.write(WITHOUT.format(missing))

    def describe(self) -> str:
        return "Create the extensions that search by similarity needs"


class CreateFolding(SearchOperation):
    """The functions that fold text."""

    def put_up(self, connection: BaseDatabaseWrapper) -> None:
        run(connection, functions(connection))

    def take_down(self, connection: BaseDatabaseWrapper) -> None:
        run(connection, DROP_FUNCTIONS)

    def describe(self) -> str:
        return "Create the functions that fold text for search"


class KeepTerms(SearchOperation):
    """Keeps the terms of a model's rows from here on, and adds those of the rows that are there."""

    def __init__(self, **index: str) -> None:
        self.index = Index(**index)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [], asdict(self.index)

    def put_up(self, connection: BaseDatabaseWrapper) -> None:
        extensions, index = Extensions.of(connection), self.index
        run(connection, f"DROP INDEX IF EXISTS {index.words}_similar; TRUNCATE {index.terms}, {index.words}")
        run(connection, vocabulary.near(index, extensions.path, similar=extensions.similarity))
        run(connection, triggers.keep(index))
        run(connection, triggers.add_terms(index))
        if extensions.similarity:
            classes = f"owner, word {extensions.schemas['pg_trgm']}.gin_trgm_ops"
            run(
                connection,
                f"CREATE INDEX {index.words}_similar ON {index.words} USING gin ({classes}) WITH (fastupdate = off)",
            )

    def take_down(self, connection: BaseDatabaseWrapper) -> None:
        run(
            connection,
            f"DROP INDEX IF EXISTS {self.index.words}_similar; "
            f"{triggers.drop(self.index)} {vocabulary.drop(self.index)}",
        )

    def describe(self) -> str:
        return f"Keep the search terms of {self.index.table}"


def run(connection: BaseDatabaseWrapper, statements: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statements)
