"""Statements that PostgreSQL plans once a session (PREPARE), where sessions are a client's own.

What would change a plan, how many rows are wanted, stands in the statement: one plan serves all.

Behind a pooler that hands sessions on between transactions a statement is not where it was prepared. Then the first
failure says so, and this process prepares nothing more.
"""

import hashlib
import re
from functools import lru_cache
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error
from psycopg2.errors import DuplicatePreparedStatement, InvalidSqlStatementName

NAME = re.compile("direct_[0-9a-f]{16}")
MOST = 200  # statements that a session keeps

_known: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
_pooled = False


def prepared(session: Any, sql: str) -> str:
    """The SQL to run in the place of a statement, with the same parameters; it prepares what is not known to be."""
    known = _known.get(session, ())
    name, preparation, execution = forms(sql)
    if name in known:
        return execution
    return sql if _pooled or len(known) >= MOST else preparation + execution


def ran(session: Any, *statements: str) -> None:
    """Call it when what `prepared` gave for them has run."""
    known = _known.setdefault(session, set())
    if not _pooled and len(known) < MOST:
        known.update(forms(sql)[0] for sql in statements)


def failed(session: Any, error: Error) -> None:
    """Call it with what that raised. After anything else, a lock that was not to be had, say, it is tried again."""
    global _pooled
    if isinstance(error.__cause__, InvalidSqlStatementName):
        _pooled = True
        _known.clear()
    elif isinstance(error.__cause__, DuplicatePreparedStatement):  # prepared by then, though not run
        _known.setdefault(session, set()).update(NAME.findall(error.__cause__.diag.message_primary or ""))


@lru_cache(maxsize=256)
def forms(sql: str) -> tuple[str, str, str]:
    name = f"direct_{hashlib.sha256(sql.encode()).hexdigest()[:16]}"
    numbers = count(1)
    numbered = re.sub("%[s%]", lambda match: f"${next(numbers)}" if match[0] == "%s" else "%%", sql)
    places = ", ".join(["%s"] * (next(numbers) - 1))
    return name, f"PREPARE {name} AS {numbered};\n", f"EXECUTE {name}" + (f" ({places})" if places else "")
