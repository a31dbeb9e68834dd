"""A strict reader of Prometheus's text format, and promtool, where Debian's package `prometheus` is installed."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

Labels = tuple[tuple[str, str], ...]
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
CONTENT = r'(?:[^"\\\n]|\\[\\"n])*'
LABEL = re.compile(rf'([a-zA-Z_][a-zA-Z0-9_]*)="({CONTENT})"')
LABELS = rf'(?:[a-zA-Z_][a-zA-Z0-9_]*="{CONTENT}",?)+'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABELS})\}})? (-?[0-9][0-9.e+-]*)")
ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of Debian's prometheus")


@dataclass
class Family:
    kind: str
    help_text: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)  # by name and sorted labels


def unescape(text: str) -> str:
    return re.sub(r"\\[\\\"n]", lambda found: ESCAPED[found[0]], text)


def parse(text: str) -> dict[str, Family]:
    """The families by their names. Anything that is not the format is an AssertionError."""
    families: dict[str, Family] = {}
    assert text.endswith("\n")
    name, help_text = "", ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, help_text = line.split(" ", 3)
        elif line.startswith("# TYPE "):
            _, _, typed, kind = line.split(" ")
            assert typed == name, line
            assert name not in families, line
            families[name] = Family(kind, unescape(help_text))
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            sample, inside, value = found[1], found[2] or "", found[3]
            suffixes = ("_bucket", "_sum", "_count") if families[name].kind == "histogram" else ("",)
            assert sample in {name + suffix for suffix in suffixes}, line
            labels = tuple(sorted((label, unescape(content)) for label, content in LABEL.findall(inside)))
            assert (sample, labels) not in families[name].samples, line
            families[name].samples[sample, labels] = float(value)
    return families


def total(families: Mapping[str, Family], name: str, **labels: str) -> float:
    """The sum of the samples of that name which have these labels."""
    return sum(
        value
        for family in families.values()
        for (sample, own), value in family.samples.items()
        if sample == name and labels.items() <= dict(own).items()
    )


def promtool(*arguments: object, text: str = "") -> str:
    """What promtool prints. A failure is an AssertionError."""
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
