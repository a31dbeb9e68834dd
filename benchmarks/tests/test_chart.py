"""The chart and the tables of a comparison."""

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import chart, report
from benchmarks.load import Slice
from benchmarks.operations import EVERYDAY_CALLS, PLAIN_NAMES


def slices(cpu):
    return [Slice(rate=1000, p50=1, p99=2, application=cpu * noise / 2, postgresql=cpu * noise / 2) for noise in (1, 2)]


@pytest.fixture
def results():
    found = report.Results(rounds=2, seconds=1, others=20_000)
    costs = {"ours": 100, "stock": 400, "fastapi": 150, "fastify": 90, "go": 25}
    found.plain = {name: {server: slices(cpu) for server, cpu in costs.items()} for name in PLAIN_NAMES}
    found.everyday = {name: (slices(100), slices(150)) for name in EVERYDAY_CALLS}
    return found


def test_the_chart_is_an_image_without_scripts_that_names_every_operation(results):
    root = ElementTree.fromstring(chart.draw(results))  # noqa: S314  (our own text)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "style", "rect", "line", "circle", "text"}
    texts = {element.text for element in root.iter() if element.text}
    assert {*PLAIN_NAMES, *EVERYDAY_CALLS} <= texts
    assert "get one, go: 0.25×" in texts


def test_a_chart_without_any_results_is_an_image_too():
    ElementTree.fromstring(chart.draw(report.Results(rounds=1, seconds=1, others=1)))  # noqa: S314


def test_a_missed_goal_is_bold(results):
    table = report.ratio_table(results)
    assert "| get one | 4.00 (4.00–4.00) ≥ 3.1 | **1.50 (1.50–1.50), not ≥ 2.1** | 1.11 (1.11–1.11) |" in table
    assert "**4.00 (4.00–4.00), not ≤ 3.2** |" in table


def test_an_everyday_call_is_judged_beside_its_plain_call(results):
    table = report.everyday_table(results)
    assert "| list 20, ?fields= | list 20 | 1.50 (1.50–1.50) ≤ 1.5 | 112 | 112 | – | – |" in table
    assert "| get one, ?fields= | get one | **1.50 (1.50–1.50), not ≤ 1.3** | 112 | 112 | – | – |" in table
