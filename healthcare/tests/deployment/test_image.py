"""deploy/docker/Dockerfile and .dockerignore. `scripts/image_dry_run` does what they say, and runs the result."""

import re
from pathlib import Path

from django.conf import settings
from django.core.management import get_commands

from healthcare.tests.deployment.dockerfile import context_files, read_stages

ROOT = Path(settings.BASE_DIR)
OTHER_FILES = {"manage.py", "pyproject.toml", "LICENSE", "requirements.txt", "requirements-production.lock"}


def test_the_image_has_the_code_of_every_app_and_nothing_of_the_tests():
    apps = {name.partition(".")[0] for name in settings.INSTALLED_APPS if (ROOT / name.partition(".")[0]).is_dir()}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for app in apps
        for path in (ROOT / app).rglob("*")
        if path.is_file() and not {"tests", "__pycache__"} & set(path.parts)
    }
    assert {"healthcare", "accounts", "fhir"} < apps
    assert set(context_files(ROOT)) == wanted | OTHER_FILES


def test_the_image_installs_by_hash_and_runs_as_a_numbered_user():
    build, image = read_stages(ROOT / "deploy" / "docker" / "Dockerfile")
    installation = next(words for name, words in build.instructions if name == "RUN" and "-m pip" in words)
    assert "--require-hashes --requirement requirements-production.lock" in installation
    assert not [words for name, words in image.instructions if name == "RUN"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", image.last("USER"))
    assert image.command[:2] == ["python", "manage.py"]
    assert image.command[2] in get_commands()
    assert "/healthz" in image.health_check[-1]


def test_the_image_starts_from_the_python_that_the_lock_files_are_made_for():
    [base] = {stage.base for stage in read_stages(ROOT / "deploy" / "docker" / "Dockerfile")}
    lowest = re.search(r"--python-version (\S+)", (ROOT / "scripts" / "lock").read_text(encoding="utf-8"))
    assert lowest
    assert base.startswith(f"python:{lowest[1]}-slim-")
