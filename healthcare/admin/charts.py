"""Charts as SVG, drawn on the server: no script, and presentation attributes instead of styles, which the content
security policy refuses. admin.css gives the classes their colours, from Django's variables.

A chart is 340 units wide, which is about its width in pixels both on a phone and in the columns of a wide window, so
its text is read without zooming.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from healthcare.admin.counts import Count

CHART_WIDTH, CHART_HEIGHT = 340, 170
TOP, BOTTOM = 20, 24  # for the numbers above the columns and the labels below
LABEL_WIDTH = 24  # units between two labels, at least
BAR_WIDTH, BAR_HEIGHT = 100, 12
LEAST_LENGTH = 1.5  # units of a bar that stands for more than nothing
SVG_TEXT = '<text class="{}" x="{}" y="{}">{}</text>'
UNITS = [(name, 1_000**power) for power, name in enumerate(["", "k", "M", "G", "T", "P", "E"])]


def length_of(number: int, largest: int, longest: float) -> float:
    """The length of the bar of a number, of which `largest` has the length `longest`."""
    if number <= 0 or largest <= 0:
        return 0.0
    return round(max(longest * min(number / largest, 1), LEAST_LENGTH), 2)


def short(number: int) -> str:
    """The number in at most four characters, where one of them has to fit above a column: "999", "1.2k", "12M"."""
    name, size = next((unit for unit in reversed(UNITS) if number >= unit[1] * 0.9995), UNITS[0])
    if size == 1:
        return str(number)
    scaled = f"{number / size:.1f}"
    return f"{scaled.removesuffix('.0') if len(scaled) < 4 else round(number / size)}{name}"


@dataclass(frozen=True)
class Column:
    """`label` is short, for the axis; `name` is the full one. `url` is the list behind the number."""

    label: str
    name: str
    count: Count
    url: str


@dataclass(frozen=True)
class ColumnChart:
    """A number for each of several days, say: a column for each, and the numbers as a table."""

    title: str
    unit: str
    columns: Sequence[Column]
    heading: str = "Day"
    template = "admin/home/columns.html"

    @property
    def largest(self) -> int:
        return max((column.count.number for column in self.columns), default=0)

    @property
    def description(self) -> str:
        return "; ".join(f"{column.name}: {column.count}" for column in self.columns)

    def svg(self) -> SafeString:
        return format_html(
            '<svg class="chart" role="img" viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg">'
            "<title>{}</title><desc>{}</desc>{}"
            '<line class="chart-axis" x1="0" y1="{}" x2="{}" y2="{}"/></svg>',
            CHART_WIDTH,
            CHART_HEIGHT,
            f"{self.title}, {self.unit}",
            self.description,
            format_html_join("", "{}", ((mark,) for mark in self.marks())),
            CHART_HEIGHT - BOTTOM,
            CHART_WIDTH,
            CHART_HEIGHT - BOTTOM,
        )

    def marks(self) -> Iterator[SafeString]:
        """Of each column its bar, its number and its label. Numbers and labels are left out where they would touch."""
        step = CHART_WIDTH / max(len(self.columns), 1)
        every = max(1, -(-LABEL_WIDTH // int(max(step, 1))))
        for index, column in enumerate(self.columns):
            height = length_of(column.count.number, self.largest, CHART_HEIGHT - TOP - BOTTOM)
            top, middle = round(CHART_HEIGHT - BOTTOM - height, 2), round(step * (index + 0.5), 2)
            yield format_html(
                '<rect class="chart-bar" x="{}" y="{}" width="{}" height="{}"/>',
                round(step * index + step * 0.15, 2),
                top,
                round(step * 0.7, 2),
                height,
            )
            if (len(self.columns) - 1 - index) % every == 0:
                yield format_html(SVG_TEXT, "chart-number", middle, round(top - 5, 2), short(column.count.number))
                yield format_html(SVG_TEXT, "chart-label", middle, CHART_HEIGHT - 8, column.label)


@dataclass(frozen=True)
class Bar:
    """One line of a ranking. `length` is in units of which BAR_WIDTH is the longest bar, `url` the list behind the
    number."""

    name: str
    count: Count
    length: float
    url: str

    def svg(self) -> SafeString:
        return format_html(
            '<svg class="chart-row" aria-hidden="true" focusable="false" viewBox="0 0 {} {}" '
            'preserveAspectRatio="none" xmlns="http://www.w3.org/2000/svg">'
            '<rect class="chart-bar" x="0" y="0" width="{}" height="{}"/></svg>',
            BAR_WIDTH,
            BAR_HEIGHT,
            self.length,
            BAR_HEIGHT,
        )


@dataclass(frozen=True)
class BarTable:
    """A ranking: a table of names, bars and numbers. A bar repeats its number, so that screen readers skip it."""

    title: str
    unit: str
    heading: str
    bars: Sequence[Bar]
    template = "admin/home/bars.html"

    @classmethod
    def of(cls, title: str, unit: str, heading: str, rows: Sequence[tuple[str, Count, str]]) -> "BarTable":
        """`rows` are names, numbers and the lists behind these."""
        largest = max((count.number for _, count, _ in rows), default=0)
        bars = [Bar(name, count, length_of(count.number, largest, BAR_WIDTH), url) for name, count, url in rows]
        return cls(title, unit, heading, bars)
