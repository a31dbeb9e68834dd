"""Which tests a run without names leaves out."""

from types import SimpleNamespace
from typing import Any

import pytest

from conftest import pytest_configure

NOTHING, FILES = pytest.Config.ArgsSource.INVOCATION_DIR, pytest.Config.ArgsSource.ARGS


@pytest.mark.parametrize(
    ("source", "keyword", "mark", "selected"),
    [
        (NOTHING, "", "", "not slow"),
        (FILES, "", "", ""),
        (NOTHING, "merge", "", ""),
        (NOTHING, "", "slow", "slow"),
        (NOTHING, "", "slow or not slow", "slow or not slow"),
    ],
)
def test_slow_tests_run_where_a_file_a_test_or_a_mark_is_named(source: Any, keyword: str, mark: str, selected: str):
    config: Any = SimpleNamespace(args_source=source, option=SimpleNamespace(keyword=keyword, markexpr=mark))
    pytest_configure(config)
    assert config.option.markexpr == selected
