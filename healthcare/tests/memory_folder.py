"""Where tests keep their PostgreSQL servers: in memory where there is enough, since every commit waits for its disk."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108  (a tmpfs of Linux)
ENOUGH = 3 * 2**30  # bytes; every server of a run together takes less than one GiB


def create_folder(prefix: str = "hc-") -> Path:
    """A new folder with a short path that every account may enter."""
    parent = Path("/tmp")  # noqa: S108
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ENOUGH:
        parent = MEMORY
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    folder.chmod(0o755)
    return folder


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Such a folder, deleted at the end of the block."""
    folder = create_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
