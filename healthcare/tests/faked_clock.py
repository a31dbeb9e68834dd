"""A process whose wall clock a test can set while it runs, by Debian's libfaketime. Its monotonic clock stays right."""

import os
from pathlib import Path

import pytest

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
needs_faketime = pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (the package faketime)")
# libfaketime 0.9.10 breaks clock_nanosleep() until a time of the monotonic clock, by which Python sleeps.
SLEEP_BY_SELECT = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"


class FakedClock:
    """The clock of the processes that get `environment`. It is right at first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        self.file = folder / "clock"
        self.set("+0")
        (folder / "sitecustomize.py").write_text(SLEEP_BY_SELECT)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(folder),
        }

    def set(self, time: str) -> None:
        """Set it, to a time such as `@1990-01-01 00:00:00` or off by so much, such as `-1d`."""
        written = self.file.with_suffix(".new")
        written.write_text(f"{time}\n")
        written.chmod(0o644)
        os.replace(written, self.file)
