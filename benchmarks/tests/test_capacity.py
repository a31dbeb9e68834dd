"""The arithmetic of docs/capacity.md. What is measured is not measured again."""

import re
from dataclasses import replace

import pytest

from benchmarks.capacity import (
    MIX,
    USER_COUNTS,
    Assumptions,
    OperationCost,
    limit_usage,
    page_tables,
    plan,
    purchase,
    read_inputs,
    shard_count,
)
from healthcare.project import PROJECT

PAGE = (PROJECT / "docs" / "capacity.md").read_text(encoding="utf-8")
INPUTS, ASSUMPTIONS = read_inputs(), Assumptions()
ROUND = OperationCost(
    application=1000, postgresql=500, wal=1000, images=10_000, access_log=200, history=20, rows=1.1, transactions=1
)
ROUND_INPUTS = replace(INPUTS, operations=dict.fromkeys(MIX, ROUND), patient=2000, mapping=1000, user=1000, session=0)


@pytest.mark.parametrize("heading", page_tables(INPUTS, ASSUMPTIONS))
def test_the_page_has_the_table_that_the_saved_figures_give(heading):
    section = re.search(rf"^## {heading}$(.*?)(^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    assert page_tables(INPUTS, ASSUMPTIONS)[heading] in section[1]


def test_the_mix_has_a_thousand_requests():
    assert sum(MIX.values()) == 1000


def test_a_plan_of_round_figures():
    found = plan(ROUND_INPUTS, 432_000, ASSUMPTIONS)  # 8,640,000 requests a day, 100 a second
    assert found.peak == pytest.approx(500)
    assert (found.application, found.postgresql) == pytest.approx((0.5, 0.25))
    assert found.wal == pytest.approx(1.0)  # MB/s: 500 times 1,000 bytes and a tenth of 10,000
    assert found.patients == pytest.approx(8640 * 365 * 3)
    assert found.records == pytest.approx((432_000 * 1000 + 8640 * 365 * 3 * 3000) / 1e9)
    assert (found.access_log, found.history) == pytest.approx((630.72, 63.072))  # GB of a year
    assert found.transactions == pytest.approx(8_640_000)


@pytest.mark.parametrize("users", USER_COUNTS)
def test_no_limit_of_a_shard_is_exceeded(users):
    whole = plan(INPUTS, users, ASSUMPTIONS)
    number = shard_count(whole, ASSUMPTIONS)
    one = limit_usage(plan(INPUTS, users // number, ASSUMPTIONS), ASSUMPTIONS)
    assert one["size of one database"] <= 1
    assert one["transaction ids of one database"] <= 1
    assert purchase(whole, ASSUMPTIONS).databases == number * 3
