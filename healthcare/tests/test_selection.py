"""Which tests a run without names leaves out."""

from types import SimpleNamespace
from typing import Any

import pytest

from conftest import pytest_configure

NOTHING, FILES = pytest.Config.ArgsSource.INVOCATION_DIR, pytest.Config.ArgsSource.ARGS


@pytest.mark.parametrize(
    ("source", "options", "selected"),
    [
        (NOTHING, {}, "not slow"),
        (NOTHING, {"lf": False}, "not slow"),
        (NOTHING, {"lf": True}, ""),
        (FILES, {}, ""),
        (NOTHING, {"keyword": "merge"}, ""),
        (NOTHING, {"markexpr": "slow"}, "slow"),
        (NOTHING, {"markexpr": "slow or not slow"}, "slow or not slow"),
    ],
)
def test_slow_tests_run_where_tests_are_chosen(source: Any, options: dict[str, Any], selected: str):
    chosen = {"keyword": "", "markexpr": ""} | options
    config: Any = SimpleNamespace(args_source=source, option=SimpleNamespace(**chosen))
    pytest_configure(config)
    assert config.option.markexpr == selected
