"""What PostgreSQL's extensions make possible here; search works without them, by the beginnings of words."""

from dataclasses import dataclass

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import NotSupportedError, OperationalError, ProgrammingError

EXTENSIONS = ("pg_trgm", "btree_gin", "unaccent")
UNACCENT_DICTIONARY = "'{schema}.unaccent'::regdictionary, "


@dataclass(frozen=True)
class Extensions:
    """Where each extension that is there has its functions: its schema."""

    schemas: dict[str, str]

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper) -> "Extensions":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT extname, quote_ident(n.nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
            )
            return cls({name: schema for name, schema in cursor.fetchall() if name in EXTENSIONS})

    @property
    def missing(self) -> list[str]:
        return [name for name in EXTENSIONS if name not in self.schemas]

    @property
    def similarity(self) -> bool:
        return {"pg_trgm", "btree_gin"} <= self.schemas.keys()

    @property
    def path(self) -> str:
        """The search path of our functions: fixed, so that no caller's temporary table stands in for a real one."""
        return ", ".join(dict.fromkeys(["pg_catalog", "public", *self.schemas.values(), "pg_temp"]))


def create_missing(connection: BaseDatabaseWrapper) -> str:
    """Create those that this database user may create. Answers what an administrator has to run for the others."""
    for name in Extensions.of(connection).missing:
        try:
            with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                cursor.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
        except (ProgrammingError, OperationalError, NotSupportedError):
            continue  # not allowed to, or not installed
    missing = Extensions.of(connection).missing
    return " ".join(f"CREATE EXTENSION {name};" for name in missing)
