"""docs/security.md answers every requirement of OWASP ASVS 5.0.0, levels 1 and 2, by code and tests that exist."""

import re
from collections import Counter
from pathlib import Path

from django.conf import settings

ROOT = Path(settings.BASE_DIR)
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
# How many requirements of levels 1 and 2 each section has; they are numbered from 1.
SECTIONS = """
1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2 4.4:4 5.1:1 5.2:3
5.3:2 5.4:3 6.1:3 6.2:12 6.3:4 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2 8.1:2 8.2:3 8.3:1 8.4:1 9.1:3
9.2:4 10.1:2 10.2:2 10.3:4 10.4:11 10.5:5 10.6:2 10.7:3 11.1:2 11.2:3 11.3:3 11.4:4 11.5:1 11.6:1 12.1:3 12.2:2 12.3:4
13.1:1 13.2:5 13.3:2 13.4:5 14.1:2 14.2:4 14.3:3 15.1:3 15.2:3 15.3:7 16.1:1 16.2:5 16.3:4 16.4:3 16.5:3 17.1:1 17.2:4
17.3:2
"""
ROW = re.compile(r"^\| ([0-9][0-9., –]+) \| (met|partly|no|operator|n/a) \| (.+) \|$", re.MULTILINE)


def expanded(cell: str) -> list[str]:
    """The requirements of a cell: "1.2.6–1.2.8, 1.3.1" are four."""
    found = []
    for part in cell.split(", "):
        first, _, last = part.partition("–")
        section, number = first.rsplit(".", 1)
        end = last.rsplit(".", 1) if last else [section, number]
        assert end[0] == section, part
        found += [f"{section}.{one}" for one in range(int(number), int(end[1]) + 1)]
    return found


def test_every_requirement_has_one_answer() -> None:
    sections = dict(entry.split(":") for entry in SECTIONS.split())
    required = {f"{section}.{number}" for section, last in sections.items() for number in range(1, int(last) + 1)}
    answered = Counter(requirement for cell, _, _ in ROW.findall(PAGE) for requirement in expanded(cell))
    assert len(required) == 253
    assert answered == Counter(required)


def test_what_is_missing_is_what_the_tables_say() -> None:
    summary = PAGE.partition("## What is missing")[2].partition("\n## ")[0]
    missing = {one for cell, state, _ in ROW.findall(PAGE) if state == "no" for one in expanded(cell)}
    named = set(re.findall(r"[0-9]+\.[0-9]+\.[0-9]+", summary))
    assert named - missing == {"16.3.1"}  # met in part
    assert missing <= named


def test_the_code_and_the_tests_that_it_names_exist() -> None:
    tests = {
        name
        for path in ROOT.glob("*/**/test_*.py")
        if ".venv" not in path.parts
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    named = re.findall(r"`([^`]+)`", PAGE)
    assert {name for name in named if name.startswith("test_")} - tests == set()
    paths = {name for name in named if re.fullmatch(r"[a-z_]+/\S+\.py|requirements\S*\.lock", name)}
    assert len(paths) > 40
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_what_is_met_names_code_or_a_test() -> None:
    without = [cell for cell, state, how in ROW.findall(PAGE) if state == "met" and "`" not in how]
    assert without == ["11.1.2", "13.1.1"]  # this page itself
