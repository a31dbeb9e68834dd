"""The random key that signs in place of a weak SECRET_KEY, stored beside the database."""

import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from healthcare.project import PROJECT

KEY_BYTES = 64


def key_file(database: dict[str, Any]) -> Path:
    """The file in the folder of the embedded PostgreSQL, which is created if necessary; in the project's folder if the
    database is another one. Raises OSError if the folder cannot be created."""
    folder = database.get("EMBEDDED_HOME")
    if not folder:
        return PROJECT / ".secret_key"
    # Not at the top: Windows, where the database is another one, lacks what these import.
    from healthcare.embedded.errors import EmbeddedError  # noqa: PLC0415
    from healthcare.embedded.home import resolve_home  # noqa: PLC0415

    try:
        home = resolve_home(Path(folder))
        home.create()
    except EmbeddedError as error:
        raise OSError(str(error)) from error
    return home.folder / "secret_key"


def load_or_create_key(file: Path) -> str:
    """Return the key in the file, which is created with a random one if it does not exist.

    Of concurrent processes one creates it, and all return the same key. Raises OSError, or ValueError for a file that
    holds no such key.
    """
    try:
        return read_key_file(file)
    except FileNotFoundError:
        create_key_file(file)
        return read_key_file(file)


def read_key_file(file: Path) -> str:
    key = file.read_text(encoding="ascii").strip()
    if len(key) < KEY_BYTES:
        raise ValueError("no key")
    return key


def create_key_file(file: Path) -> None:
    """Create the file atomically, readable by its owner only. Do nothing if another process was faster."""
    descriptor, temporary = tempfile.mkstemp(prefix=".secret_key.new-", dir=file.parent)
    try:
        with open(descriptor, "w", encoding="ascii") as new:
            new.write(secrets.token_urlsafe(KEY_BYTES) + "\n")
            new.flush()
            os.fsync(new.fileno())
        try:
            os.link(temporary, file)
        except FileExistsError:
            return
    finally:
        os.unlink(temporary)
