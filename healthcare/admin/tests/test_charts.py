"""Charts are well-formed SVG, drawn to scale, without anything that the content security policy blocks."""

import re
from xml.etree import ElementTree

import pytest

from healthcare.admin.charts import (
    BAR_WIDTH,
    BOTTOM,
    CHART_HEIGHT,
    CHART_WIDTH,
    TOP,
    BarTable,
    Column,
    ColumnChart,
    short,
)
from healthcare.admin.counts import Count, about
from healthcare.tests.admin_pages import Page

SVG = "{http://www.w3.org/2000/svg}"
SERIES = [[], [0], [1], [0, 0, 0], [1, 2, 4], [10**18, 1, 0], [7] * 14, list(range(31)), [999, 1_000, 999_999]]


def chart_of(numbers: list[int], title: str = "Reads") -> ColumnChart:
    columns = [Column(str(day), f"Day {day}", Count(number), "/") for day, number in enumerate(numbers, 1)]
    return ColumnChart(title, "a day", columns)


def drawn(svg: str) -> ElementTree.Element:
    assert Page(svg).blocked == []
    assert "nan" not in svg.lower()
    assert "inf" not in svg.lower()
    return ElementTree.fromstring(svg)  # noqa: S314  (our own text)


def numbers_of(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names]


@pytest.mark.parametrize("numbers", SERIES)
def test_columns_stand_on_the_axis_and_are_as_high_as_their_numbers(numbers: list[int]):
    root = drawn(chart_of(numbers).svg())
    assert root.attrib["viewBox"] == f"0 0 {CHART_WIDTH} {CHART_HEIGHT}"
    bars = [numbers_of(bar, "x", "y", "width", "height") for bar in root.iter(f"{SVG}rect")]
    assert len(bars) == len(numbers)
    height_of_bars = CHART_HEIGHT - TOP - BOTTOM
    right = 0.0
    for number, (x, y, width, height) in zip(numbers, bars, strict=True):
        assert x >= right - 0.011
        assert width > 0
        right = x + width
        assert y + height == pytest.approx(CHART_HEIGHT - BOTTOM, abs=0.02)
        assert y >= TOP - 0.01
        exact = height_of_bars * number / max(*numbers, 1, 1)
        assert height == pytest.approx(exact, abs=0.01) or (number and exact < 1.5 == height)
    assert right <= CHART_WIDTH


@pytest.mark.parametrize("numbers", SERIES)
def test_numbers_and_labels_do_not_touch_each_other_or_the_edge(numbers: list[int]):
    texts = list(drawn(chart_of(numbers).svg()).iter(f"{SVG}text"))
    labels = [text for text in texts if text.attrib["class"] == "chart-label"]
    assert len(texts) == 2 * len(labels)
    assert labels or not numbers
    assert labels == [] or labels[-1].text == str(len(numbers))
    for one, next_one in zip(labels, labels[1:], strict=False):
        assert float(next_one.attrib["x"]) - float(one.attrib["x"]) >= 24
    for text in texts:
        [x, y] = numbers_of(text, "x", "y")
        assert 0 < x < CHART_WIDTH
        assert 10 <= y <= CHART_HEIGHT - 2
        assert text.attrib["class"] == "chart-label" or len(text.text or "") <= 4


def test_a_chart_says_in_words_what_it_shows():
    root = drawn(chart_of([1, 2]).svg())
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{SVG}title") == "Reads, a day"
    assert root.findtext(f"{SVG}desc") == "Day 1: 1; Day 2: 2"


def test_text_is_escaped():
    assert drawn(chart_of([1], title='<b>"A" & B</b>').svg()).findtext(f"{SVG}title") == '<b>"A" & B</b>, a day'


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (1, "1"), (999, "999"), (1_000, "1k"), (1_234, "1.2k"), (9_949, "9.9k"), (9_950, "9.9k"),
        (9_960, "10k"), (12_345, "12k"), (999_499, "999k"), (999_500, "1M"), (1_000_000, "1M"), (10**9, "1G"),
        (5 * 10**14, "500T"), (9 * 10**18, "9E"),
    ],
)  # fmt: skip
def test_a_number_above_a_column_has_at_most_four_characters(number: int, text: str):
    assert short(number) == text


@pytest.mark.parametrize("numbers", [[], [0], [5], [4, 2, 1], [10**18, 1]])
def test_the_bars_of_a_ranking_are_as_long_as_their_numbers(numbers: list[int]):
    table = BarTable.of("Busiest", "assignments", "Doctor", [("Dr. <Rao>", about(number), "/") for number in numbers])
    for number, bar in zip(numbers, table.bars, strict=True):
        [rect] = drawn(bar.svg()).iter(f"{SVG}rect")
        exact = BAR_WIDTH * number / max(*numbers, 1)
        assert float(rect.attrib["width"]) == pytest.approx(max(exact, 1.5 if number else 0), abs=0.01)


def test_no_colour_is_set_but_in_the_stylesheet():
    svg = chart_of([1, 2]).svg()
    assert not re.search(r"(fill|stroke|color|style|font)\w*=", svg)
