"""The documents and .env.example agree with the code: their commands run, and their names and links exist."""

import re
from pathlib import Path

from django.conf import settings

from healthcare.tests.curl_commands import (
    calls_in,
    contract_calls,
    error_statuses,
    install_recording_curl,
    run_bash,
)
from healthcare.tests.live import LiveServer

ROOT = Path(settings.BASE_DIR)
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLINIC = (ROOT / "docs" / "clinic.md").read_text(encoding="utf-8")
# The README and the page about clinics show every call of these. Further apps show theirs in `<app>/quickstart.sh`.
README_APPS = ["accounts", "patients", "doctors", "mappings"]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "benchmarks").glob("*.md")]
PACKAGE = re.compile(r"^( *)([a-z_]+)/", re.MULTILINE)


def curl_commands(document: str) -> str:
    """The blocks of a document that call the API, in their order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in blocks if "curl" in block)


def run_commands(document: str, server: LiveServer, folder: Path) -> tuple[str, str]:
    """Run the blocks of a document as written. Returns the calls that they make, and what they print."""
    log = install_recording_curl(folder)
    script = "set -euo pipefail\n" + curl_commands(document).replace("http://127.0.0.1:8000", server.url)
    done = run_bash(script, path=str(folder))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return log.read_text(), done.stdout


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


def test_the_commands_of_the_readme_and_of_the_clinics_page_run_as_written_and_make_every_call(
    live: LiveServer, tmp_path: Path
):
    calls, printed = run_commands(README, live, tmp_path)
    assert error_statuses(calls) == [], printed[-2000:]
    calls_of_clinic, printed = run_commands(CLINIC, live, tmp_path)
    stated = re.findall(r"  # (\d{3})(?: (\w+))?$", curl_commands(CLINIC), re.MULTILINE)
    assert error_statuses(calls_of_clinic) == [status for status, _ in stated], printed[-2000:]
    codes = re.findall(r'"status":4\d\d,[^{}]*"code":"(\w+)"', printed)
    assert codes == [code for _, code in stated if code]
    assert re.search(r"^x-acting-for: sunrise\r?$", printed, re.MULTILINE | re.IGNORECASE)
    assert calls_in(calls + calls_of_clinic) == contract_calls(*README_APPS)


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
