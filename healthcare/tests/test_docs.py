"""The documents and .env.example agree with the code: their commands run, and their names and links exist."""

import re
from pathlib import Path

from django.conf import settings

from healthcare.tests.curl_commands import calls_in, contract_calls, install_recording_curl, run_bash
from healthcare.tests.live import LiveServer

ROOT = Path(settings.BASE_DIR)
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The README shows every call of these. Further apps show theirs in `<app>/quickstart.sh`.
README_APPS = ["accounts", "patients", "doctors", "mappings"]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "benchmarks").glob("*.md")]
PACKAGE = re.compile(r"^( *)([a-z_]+)/", re.MULTILINE)


def curl_commands() -> str:
    """The blocks of the README that call the API, in their order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in blocks if "curl" in block)


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


def test_the_commands_of_the_readme_run_as_written_and_make_every_call(live: LiveServer, tmp_path: Path):
    log = install_recording_curl(tmp_path)
    script = "set -euo pipefail\n" + curl_commands().replace("http://127.0.0.1:8000", live.url)
    done = run_bash(script, path=str(tmp_path))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert calls_in(log.read_text()) == contract_calls(*README_APPS)


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
