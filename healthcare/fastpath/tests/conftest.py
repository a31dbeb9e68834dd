from typing import Any

import pytest

from healthcare.fastpath.prepared import losses
from healthcare.fastpath.public_cache import answers


@pytest.fixture(autouse=True)
def fast_path_is_on(settings: Any) -> None:
    """Switch the fast path on, whatever FAST_PATH the suite runs with, and clear its caches."""
    settings.FAST_PATH = "on"
    settings.DB_PREPARED_STATEMENTS = True
    losses.reset()
    answers.clear()
