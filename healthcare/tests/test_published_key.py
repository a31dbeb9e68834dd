"""A published or weak SECRET_KEY never signs a token: a random key, stored beside the database, does."""

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from dotenv import dotenv_values

from healthcare import env_settings
from healthcare.embedded.home import resolve_home

pytestmark = pytest.mark.slow

PRINT_KEYS = """
import json, django; django.setup()
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
print(json.dumps([settings.SECRET_KEY, settings.SIMPLE_JWT["SIGNING_KEY"]]))
"""
WEAK_IN_OTHER_SPELLINGS = [
    "CHANGE.ME 9fj3h4hf93hf9h3f9h3fh39fh39fh39f3kd83kd93kd0",
    "\N{FULLWIDTH LATIN SMALL LETTER C}hange me 9fj3h4hf93hf9h3f9h3fh39fh39fh39f3kd83kd93",
    "a-string-secret-at-least-256-bits-long",  # jwt.io
    "your-256-bit-secret-" * 3,
    "Zq8-k3y,bXw" * 5,
    "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRST",
]
WARNING = "SECRET_KEY is published or too weak"


@pytest.fixture
def home(tmp_path: Path) -> Any:
    """The folder of an embedded PostgreSQL that does not exist yet."""
    folder = tmp_path / "nested" / "home"
    tmp_path.chmod(0o755)
    return resolve_home(folder)


def start(key: str, url: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "healthcare.settings", "DEBUG": "True"}
    environment |= {"SECRET_KEY": key, "DATABASE_URL": url, **variables}
    command = [sys.executable, "-c", PRINT_KEYS]
    return subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True)


def keys(started: "subprocess.CompletedProcess[str]") -> list[str]:
    assert started.returncode == 0, started.stderr
    found: list[str] = json.loads(started.stdout)
    return found


def derived_from(secret: str) -> str:
    """The key of the tokens that an attacker computes from a SECRET_KEY."""
    return hmac.digest(secret.encode(), b"healthcare.jwt", hashlib.sha256).hex()


def test_the_examples_key_signs_nothing_and_a_warning_says_so(home: Any):
    published = dotenv_values(Path(settings.BASE_DIR) / ".env.example")["SECRET_KEY"]
    assert published == "change-me"
    started = start(published, f"embedded://{home.folder}")
    secret, signing = keys(started)
    assert published not in (secret, signing)
    assert signing != derived_from(published)
    assert len(secret) >= 64
    assert started.stderr.count(WARNING) == 1
    assert str(home.folder / "secret_key") in started.stderr
    assert secret not in started.stderr


def test_the_generated_key_survives_a_restart_and_is_private(home: Any):
    url = f"embedded://{home.folder}"
    first = keys(start("change-me", url))
    assert keys(start("CHANGE_ME", url)) == first
    file = home.folder / "secret_key"
    assert file.read_text().strip() == first[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path for path in home.folder.iterdir() if "new-" in path.name] == []


def test_concurrent_first_starts_share_one_key_and_databases_do_not(home: Any, tmp_path: Path):
    urls = [f"embedded://{home.folder}"] * 4 + [f"embedded://{tmp_path}/another"]
    with ThreadPoolExecutor(5) as pool:
        *same, other = pool.map(lambda url: keys(start("change-me", url))[0], urls)
    assert len(set(same)) == 1
    assert other not in same


@pytest.mark.parametrize(
    "weak",
    [
        "change-me",
        "Change_Me",
        "changeme",
        "secret",
        "x" * 60,
        "change-me-" * 9,
        "django-insecure-" + "Zq8-k3y" * 9,
        *WEAK_IN_OTHER_SPELLINGS,
    ],
)
def test_a_weak_key_is_replaced_with_debug_and_refused_without(home: Any, weak: str):
    database = {"EMBEDDED_HOME": str(home.folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_KEY", weak)
        key, file = env_settings.secret_key("SECRET_KEY", debug=True, database=database)
        assert key != weak
        assert file == home.folder / "secret_key"
        with pytest.raises(ImproperlyConfigured, match="^SECRET_KEY is too weak"):
            env_settings.secret_key("SECRET_KEY", debug=False, database=database)


def test_a_strong_key_signs_itself_and_no_file_is_written(home: Any):
    strong = secrets.token_urlsafe(50)
    started = start(strong, f"embedded://{home.folder}")
    assert keys(started) == [strong, derived_from(strong)]
    assert WARNING not in started.stderr
    assert not home.folder.exists()


def test_another_database_has_the_key_in_the_projects_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("healthcare.generated_key.PROJECT", tmp_path)
    monkeypatch.setenv("SECRET_KEY", "change-me")
    key, file = env_settings.secret_key("SECRET_KEY", debug=True, database={"NAME": "healthcare"})
    assert file == tmp_path / ".secret_key"
    assert file.read_text().strip() == key
    ignored = (Path(settings.BASE_DIR) / ".gitignore").read_text().splitlines()
    assert ".secret_key" in ignored


@pytest.mark.parametrize("content", ["", "short", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 80])
def test_a_damaged_key_file_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str):
    monkeypatch.setattr("healthcare.generated_key.PROJECT", tmp_path)
    monkeypatch.setenv("SECRET_KEY", "change-me")
    (tmp_path / ".secret_key").write_text(content, encoding="utf-8")
    with pytest.raises(ImproperlyConfigured, match=re.escape("give it at least 50 random characters.")):
        env_settings.secret_key("SECRET_KEY", debug=True, database={"NAME": "healthcare"})


@pytest.mark.parametrize("name", ["JWT_SIGNING_KEY", "AUDIT_SEAL_KEY", "OTP_KEY"])
@pytest.mark.parametrize("weak", ["change-me-" * 4, "x" * 32, *WEAK_IN_OTHER_SPELLINGS])
def test_a_published_key_is_refused_for_every_purpose(monkeypatch: pytest.MonkeyPatch, name: str, weak: str):
    monkeypatch.setenv(name, weak)
    with pytest.raises(ImproperlyConfigured, match=f"^{name} is too short or too easily guessed"):
        env_settings.key(name)
