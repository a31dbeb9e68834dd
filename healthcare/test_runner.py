"""Runs pytest as Django's TEST_RUNNER, for `manage.py test`."""

import os
import sys
from typing import Any, NoReturn

from healthcare.project import PROJECT


class PytestRunner:
    """Replaces this process by pytest, so that the command has its exit status. manage.py passes all arguments on."""

    def __init__(self, **options: Any) -> None:
        pass

    def run_tests(self, test_labels: list[str]) -> NoReturn:
        os.chdir(PROJECT)  # pytest.ini is there
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *test_labels])  # noqa: S606 (no shell wanted)
