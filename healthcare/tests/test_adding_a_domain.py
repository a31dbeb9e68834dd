"""docs/adding-a-domain.md, followed word for word in a copy of the project, makes a domain that works."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from django.conf import settings

from healthcare.tests.live import own_database, url_of

ROOT = Path(settings.BASE_DIR)
GUIDE = (ROOT / "docs" / "adding-a-domain.md").read_text(encoding="utf-8")
FILE = r"`(appointments/[a-z0-9_/]+\.py)`"
POLICIES = "appointments/migrations/0002_row_level_security.py"
# Step 7: what is written where, before what.
NAMES = [
    ('"appointments"', "healthcare/settings.py", "]\n\nMIDDLEWARE", "    {},\n"),
    ('path("", include("appointments.urls"))', "healthcare/urls.py", "]\n\nurlpatterns", "    {},\n"),
    ("appointments", "pytest.ini", "\npython_files", " {}"),
]


def files() -> dict[str, str]:
    """The files that the steps write, by their paths: each block goes to the one that was named last."""
    steps = re.findall(r"(.*?)^   ```python\n(.*?)^   ```$", GUIDE, re.MULTILINE | re.DOTALL)
    written = {re.findall(FILE, before)[-1]: textwrap.dedent(code) for before, code in steps}
    assert len(written) == len(steps)
    empty = re.findall(FILE, GUIDE[GUIDE.index("\n1. ") : GUIDE.index("\n2. ")])
    return dict.fromkeys(empty, "") | written


def write(project: Path, path: str, text: str) -> None:
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text(text, encoding="utf-8")


def run(project: Path, database: str, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project,
        env={**os.environ, "DATABASE_URL": url_of(database)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_every_step_as_written_makes_a_domain_that_works(tmp_path: Path, django_db_setup: None):
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
    steps = files()
    for path in steps.keys() - {POLICIES}:
        write(project, path, steps[path])
    for name, path, place, form in NAMES:
        text = (project / path).read_text(encoding="utf-8")
        assert f"`{name}`" in GUIDE
        assert text.count(place) == 1
        write(project, path, text.replace(place, form.format(name) + place))
    with own_database() as database:
        run(project, database, "django", "makemigrations", "appointments", "--skip-checks")
        write(project, POLICIES, steps[POLICIES])
        run(project, database, "django", "makemigrations", "--check", "--dry-run")
        run(project, database, "django", "spectacular", "--validate", "--fail-on-warn", "--file", os.devnull)
        run(project, database, "pytest", "-n", "0", "appointments")
