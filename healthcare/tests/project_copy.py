"""A copy of the project in a temporary folder, in which a test follows a guide and runs the project's own commands."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from healthcare.project import PROJECT
from healthcare.tests.live import url_of

ROOT = PROJECT
BLOCK = re.compile(r"(.*?)^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def read_guide(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks_of(guide: str, folder: str) -> list[tuple[str, str, str]]:
    """The path, the language and the text of each code block: its file in the folder was named last before it."""
    found, path = [], ""
    for prose, language, text in BLOCK.findall(guide):
        path = [path, *re.findall(rf"`({folder}/[a-z0-9_/]+\.(?:py|sh))`", prose)][-1]
        found.append((path, language, textwrap.dedent(text)))
    return found


def files_of(guide: str, folder: str) -> dict[str, str]:
    """The files of a folder that a guide writes whole, by path."""
    written = [(path, text) for path, language, text in blocks_of(guide, folder) if language != "diff"]
    found = dict(written)
    assert len(found) == len(written), "two blocks are one file"
    return found


def hunks_of(guide: str, folder: str) -> list[tuple[str, str]]:
    """The changes that a guide makes to files of a folder: the path, and a hunk of a unified diff, without header."""
    return [(path, text) for path, language, text in blocks_of(guide, folder) if language == "diff"]


class ProjectCopy:
    """`root` is the folder of the copy. Its commands use the database of this name, on the server of the tests, unless
    an environment names another one."""

    def __init__(self, folder: Path, database: str = "", environment: dict[str, str] | None = None) -> None:
        self.root = folder / "project"
        self.environment = environment or {**os.environ, "DATABASE_URL": url_of(database)}
        ignored = shutil.ignore_patterns(
            ".git", ".venv", ".patroni", ".cluster", ".postgres", ".env", ".*_cache", "__pycache__", "build"
        )
        shutil.copytree(ROOT, self.root, ignore=ignored)

    def read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def insert(self, path: str, text: str, *, before: str) -> None:
        """Insert the text before a place that the file has once."""
        content = self.read(path)
        assert content.count(before) == 1, f"{path} has {before!r} {content.count(before)} times"
        self.write(path, content.replace(before, text + before))

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text that the file has once."""
        content = self.read(path)
        assert content.count(old) == 1, f"{path} has {old!r} {content.count(old)} times"
        self.write(path, content.replace(old, new))

    def patch(self, path: str, hunk: str) -> None:
        """Apply a hunk: lines that begin with a space stay, with - are removed, with + are added."""
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] != "+")
        self.replace(path, old, "".join(line[1:] for line in lines if line[0] != "-"))

    def python(self, *arguments: str, **variables: str) -> str:
        """Run Python with these arguments and return what it printed. Fails unless it ends with status 0."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-6000:]}{done.stderr[-6000:]}"
        return done.stdout + done.stderr

    def manage(self, *command: str, **variables: str) -> str:
        return self.python("-m", "django", *command, **variables)

    def test(self, *arguments: str) -> int:
        """Run pytest and return how many tests have passed. Fails if one fails."""
        printed = self.python("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *arguments)
        [passed] = re.findall(r"^(\d+) passed", printed, re.MULTILINE)
        return int(passed)

    def check_style(self, *checked: str) -> None:
        """Fails if ruff objects to anything in the copy, or mypy to these files and folders.

        With the project's cache mypy checks what a change affects. INSTALLED_APPS is part of the cache's key.
        """
        if (cache := ROOT / ".mypy_cache").exists():
            shutil.copytree(cache, self.root / cache.name, dirs_exist_ok=True)
        assert "All checks passed!" in self.python("-m", "ruff", "check", "--no-cache", ".")
        assert "files already formatted" in self.python("-m", "ruff", "format", "--no-cache", "--check", ".")
        assert "Success: no issues found" in self.python("-m", "mypy", *checked)
