"""Reads deploy/docker/Dockerfile and .dockerignore as a builder of images does. What it does not know, it refuses."""

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

KNOWN_INSTRUCTIONS = {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}


@dataclass
class Stage:
    """One stage: the image it starts from, its name, and its instructions in order, each with its arguments."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        return [arguments for name, arguments in self.instructions if name == instruction][-1]

    @property
    def command(self) -> list[str]:
        return [str(word) for word in json.loads(self.last("CMD"))]

    @property
    def health_check(self) -> list[str]:
        return [str(word) for word in json.loads(self.last("HEALTHCHECK").partition("CMD ")[2])]

    @property
    def variables(self) -> dict[str, str]:
        return dict(
            word.split("=", 1)
            for name, words in self.instructions
            if name == "ENV"
            for word in shlex.split(words)
        )  # fmt: skip


def read_stages(file: Path) -> list[Stage]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, arguments = line.partition(" ")
        assert name in KNOWN_INSTRUCTIONS, f"{file.name} has an instruction that this does not know: {name}"
        if name == "FROM":
            base, _, alias = arguments.partition(" AS ")
            stages.append(Stage(base, alias))
        else:
            stages[-1].instructions.append((name, arguments.strip()))
    return stages


@dataclass(frozen=True)
class Rule:
    """A line of .dockerignore. Of the lines that match a path, the last one decides."""

    pattern: "re.Pattern[str]"
    includes: bool

    def matches(self, path: str) -> bool:
        """A pattern that matches a folder matches all in it."""
        parts = path.split("/")
        return any(self.pattern.fullmatch("/".join(parts[:count])) for count in range(1, len(parts) + 1))


def read_ignore_rules(file: Path) -> list[Rule]:
    rules = []
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            includes = text.startswith("!")
            escaped = re.escape(text.removeprefix("!").strip("/"))
            pattern = escaped.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
            rules.append(Rule(re.compile(pattern), includes))
    return rules


def is_ignored(path: str, rules: list[Rule]) -> bool:
    decisions = [rule for rule in rules if rule.matches(path)]
    return bool(decisions) and not decisions[-1].includes


def context_files(project: Path) -> Iterator[str]:
    """The paths of the files that a builder is sent, relative to the project."""
    rules = read_ignore_rules(project / ".dockerignore")
    for folder, folders, files in os.walk(project):
        relative = Path(folder).relative_to(project)
        if not relative.parts:  # no rule includes a part of a top folder that is ignored as a whole
            folders[:] = [name for name in folders if not is_ignored(name, rules)]
        for name in files:
            path = (relative / name).as_posix()
            if not is_ignored(path, rules):
                yield path
