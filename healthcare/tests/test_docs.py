"""The documents and .env.example agree with the code: their commands run, and their names and links exist."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from healthcare.tests.curl_commands import (
    SHOWN_IN_ACCOUNTS_PAGE,
    SHOWN_IN_PAGES_ABOUT_FILES,
    STATED_REFUSAL,
    Call,
    Run,
    calls_in,
    commands_of,
    contract_calls,
    install_program,
    run_commands,
)
from healthcare.tests.live import LiveServer, migrated_database, serving

pytestmark = pytest.mark.slow

ROOT = Path(settings.BASE_DIR)
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLINIC = (ROOT / "docs" / "clinic.md").read_text(encoding="utf-8")
PERSON_FILE = (ROOT / "docs" / "person-file.md").read_text(encoding="utf-8")
IMPORTS = (ROOT / "docs" / "imports.md").read_text(encoding="utf-8")
EXPORTS = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
FHIR = (ROOT / "docs" / "fhir.md").read_text(encoding="utf-8")
MOVING = (ROOT / "docs" / "moving.md").read_text(encoding="utf-8")
ACCOUNTS = (ROOT / "docs" / "accounts.md").read_text(encoding="utf-8")
# The summaries of the imports on the page about moving, without the statuses of no record.
SUMMARIES_OF_MOVING = [
    {"created": 1}, {"created": 1}, {"created": 3}, {"created": 2},
    {"created": 1, "likely": 1, "failed": 1}, {"created": 1, "likely": 1, "failed": 1},
    {"created": 2, "likely": 1}, {"skipped": 2, "likely": 1},
    {"created": 1}, {"created": 2}, {"created": 2},
]  # fmt: skip
OLD_MANAGE = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "api"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
execute_from_command_line(sys.argv)
"""
OLD_RECORDS = """
from django.contrib.auth.models import User
from api.models import Doctor, Patient, PatientDoctorMapping

mohan, other = (User.objects.create(username=name) for name in ("mohan", "other"))
doctor = Doctor.objects.create(full_name="Dr. Lakshmi Iyer", specialty="Pediatrics", experience=7)
for name, user in (("Farid Khan", mohan), ("Grace Lee", mohan), ("Not Moved", other)):
    patient = Patient.objects.create(
        user=user, full_name=name, age=51, gender="Male", contact_number="080 5550 0101", medical_conditions="gout"
    )
    PatientDoctorMapping.objects.create(patient=patient, doctor=doctor)
"""
# The README and the pages about clinics and accounts show every call of these. Further apps show theirs in
# `<app>/quickstart.sh`.
README_APPS = ["accounts", "patients", "doctors", "mappings"]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "benchmarks").glob("*.md")]
PACKAGE = re.compile(r"^( *)([a-z_]+)/", re.MULTILINE)


def settings_source() -> str:
    return (ROOT / "healthcare" / "settings.py").read_text(encoding="utf-8")


def variables_read() -> set[str]:
    """The environment variables that settings.py reads."""
    return set(re.findall(r"env_settings\.\w+\(\s*\"([A-Z_]+)\"", settings_source()))


def settings_table() -> dict[str, str]:
    """Variables and defaults in docs/settings.md."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]+?) \|", text, re.MULTILINE))


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_page(commands: str, server: LiveServer, folder: Path, **environment: str) -> Run:
    """Run the commands of a page against a server, and compare what is refused with what the page states."""
    run = run_commands(commands.replace("http://127.0.0.1:8000", server.url), folder, **environment)
    assert run.refused == STATED_REFUSAL.findall(commands), run.printed[-2000:]
    return run


def install_python(folder: Path) -> None:
    """Let `python3` be the one of the server for manage.py."""
    install_program(
        folder / "python3",
        f"""case $1 in -c) exec "{sys.executable}" -S "$@" ;; *) exec "{sys.executable}" "$@" ;; esac""",
    )


def calls_of_page(page: str, server: LiveServer, folder: Path) -> set[Call]:
    """The calls that the commands of a page make, of manage.py too, which run as written against a server."""
    install_python(folder)
    return calls_in(run_page(commands_of(page), server, folder, **server.environment).calls)


@pytest.fixture(scope="module")
def calls_of_accounts(live_database: str, tmp_path_factory: pytest.TempPathFactory) -> set[Call]:
    """The calls that the commands of the accounts page make, which run as written against a server of their own: of the
    page alone, with the settings that it names. `python3` is the one of the server for manage.py, and has no packages
    for `python3 -c`, as that of a reader. The e-mails are in the log of the server."""
    folder = tmp_path_factory.mktemp("accounts")
    install_python(folder)
    log = folder / "server.log"
    started = re.search(r"^\$ (.*) python3 manage\.py serve ", ACCOUNTS, re.MULTILINE)
    assert started
    settings_of_it = dict(word.split("=") for word in started[1].split())
    with serving(live_database, migrated=True, output=log, **settings_of_it) as server:
        commands = commands_of(ACCOUNTS).replace("LOG=server.log", f"LOG={log}")
        return calls_in(run_page(commands, server, folder, **server.environment).calls)


def test_the_commands_of_the_accounts_page_run_as_written(calls_of_accounts: set[Call]):
    assert calls_of_accounts >= SHOWN_IN_ACCOUNTS_PAGE


@pytest.fixture(scope="module")
def calls_of_person_file(live_server_process: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> set[Call]:
    return calls_of_page(PERSON_FILE, live_server_process, tmp_path_factory.mktemp("person-file"))


def test_the_commands_of_the_page_about_the_file_of_a_person_run_as_written(calls_of_person_file: set[Call]):
    assert ("POST", "api/patients/<int:pk>/file/") in calls_of_person_file


@pytest.fixture(scope="module")
def calls_of_imports(live_server_process: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> set[Call]:
    return calls_of_page(IMPORTS, live_server_process, tmp_path_factory.mktemp("imports"))


def test_the_commands_of_the_page_about_imports_run_as_written(calls_of_imports: set[Call]):
    assert calls_of_imports >= {("POST", "api/patients/import/"), ("POST", "api/doctors/import/")}


@pytest.fixture(scope="module")
def calls_of_exports(live_server_process: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> set[Call]:
    return calls_of_page(EXPORTS, live_server_process, tmp_path_factory.mktemp("exports"))


def test_the_commands_of_the_page_about_exports_run_as_written(calls_of_exports: set[Call]):
    exports = {("GET", f"api/{kind}/export/") for kind in ("patients", "doctors", "mappings")}
    assert calls_of_exports >= exports


def test_the_commands_of_the_page_about_fhir_run_as_written(
    live_server_process: LiveServer, tmp_path_factory: pytest.TempPathFactory
):
    calls = calls_of_page(FHIR, live_server_process, tmp_path_factory.mktemp("fhir"))
    assert calls >= {("POST", "fhir/Patient"), ("PUT", "fhir/Patient/<positive:pk>"), ("GET", "fhir/metadata")}


@pytest.fixture(scope="module")
def calls_of_moving(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> set[Call]:
    """The calls of the page about moving, between two servers, each with a database of its own, and from a project that
    has the models of the page."""
    folder = tmp_path_factory.mktemp("moving")
    install_python(folder)
    (models,) = re.findall(r"^```python\n(.*?)^```", MOVING, re.MULTILINE | re.DOTALL)
    project = make_project(folder / "project", models)
    with (
        migrated_database(django_db_blocker) as old_database,
        serving(old_database, migrated=True) as old,
        migrated_database(django_db_blocker) as new_database,
        serving(new_database, migrated=True) as new,
    ):
        commands = commands_of(MOVING).replace("http://127.0.0.1:8001", new.url)
        run = run_page(commands, old, folder, PROJECT=str(project))
    summaries = [json.loads(text) for text in re.findall(r'"summary":({[^}]*})', run.printed)]
    assert [
        {status: number for status, number in summary.items() if number} for summary in summaries
    ] == SUMMARIES_OF_MOVING
    assert '"name":"Farid Khan","gender":"M"' in run.printed
    assert '"valueDecimal":72.50' in run.printed
    return {(method, path) for method, path in calls_in(run.calls) if not path.startswith("fhir/")}


def make_project(folder: Path, models: str) -> Path:
    """A Django project with these models in an app `api`, and three patients, of whom one is another user's."""
    (folder / "api").mkdir(parents=True)
    (folder / "api" / "__init__.py").write_text("")
    (folder / "manage.py").write_text(OLD_MANAGE)
    imports = "from django.contrib.auth.models import User\nfrom django.db import models\n\n"
    (folder / "api" / "models.py").write_text(imports + models)
    for arguments in (["migrate", "--run-syncdb"], ["shell", "-c", OLD_RECORDS]):
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=folder, check=True, capture_output=True)
    return folder


def test_the_commands_of_the_page_about_moving_run_as_written(calls_of_moving: set[Call]):
    for name in ("patients", "doctors", "mappings"):
        assert {("GET", f"api/{name}/export/"), ("POST", f"api/{name}/import/")} <= calls_of_moving


def test_the_pages_about_files_make_the_calls_that_the_quick_start_leaves_to_them(
    calls_of_imports: set[Call], calls_of_exports: set[Call], calls_of_moving: set[Call]
):
    assert calls_of_imports | calls_of_exports | calls_of_moving >= SHOWN_IN_PAGES_ABOUT_FILES


def test_the_commands_of_the_readme_and_of_the_clinics_page_run_as_written_and_make_every_other_call(
    live: LiveServer,
    tmp_path: Path,
    calls_of_accounts: set[Call],
    calls_of_person_file: set[Call],
    calls_of_imports: set[Call],
    calls_of_exports: set[Call],
    calls_of_moving: set[Call],
):
    of_readme = run_page(commands_of(README, "curl"), live, tmp_path)
    of_clinic = run_page(commands_of(CLINIC, "curl"), live, tmp_path)
    assert re.search(r"^x-acting-for: sunrise\r?$", of_clinic.printed, re.MULTILINE | re.IGNORECASE)
    shown = calls_in(of_readme.calls + of_clinic.calls) | calls_of_accounts | calls_of_person_file
    shown |= calls_of_imports | calls_of_exports | calls_of_moving
    assert shown == contract_calls(*README_APPS, "healthcare.imports")


def test_the_readme_is_short():
    assert README.count("\n") < 250


def test_the_settings_page_names_every_variable_that_is_read():
    assert set(settings_table()) == variables_read()


def test_the_example_names_every_variable_that_is_read():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) == variables_read()


def test_the_settings_page_states_the_defaults():
    stated = settings_table()
    defaults = dict(re.findall(r'env_settings\.(?:whole|choice)\(\s*"([A-Z_]+)", "?(\w+)', settings_source()))
    assert {"SESSION_HOURS", "ACCESS_TOKEN_MINUTES"} <= defaults.keys()
    assert {name: stated[name] for name in defaults} == {name: f"`{value}`" for name, value in defaults.items()}


def test_every_link_between_the_documents_has_a_target():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            linked = (document.parent / path) if path else document
            assert linked.exists(), f"{document.name} links to {target}"
            assert not anchor or anchor in anchors(linked), f"{document.name} links to {target}"


def test_the_architecture_page_lists_the_packages():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = {
        ("healthcare/" if indented else "") + name for indented, name in PACKAGE.findall(text.partition("Each")[0])
    }
    subpackages = {str(file.parent.relative_to(ROOT)) for file in ROOT.glob("healthcare/*/__init__.py")}
    assert {*README_APPS, "audit", *subpackages} - {"healthcare/tests"} <= listed
    for name in listed:
        assert (ROOT / name).is_dir(), name
