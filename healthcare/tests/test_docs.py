"""The README and .env.example say what is true: their commands run, their names are those of the code."""

import re
from pathlib import Path

from django.conf import settings

from healthcare.tests.curl_commands import calls_in, contract_calls, install_recording_curl, run_bash
from healthcare.tests.live import LiveServer

ROOT = Path(settings.BASE_DIR)
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def curl_commands() -> str:
    """The blocks of the README that call the API, in their order."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return "\n".join(block for block in blocks if "curl" in block)


def settings_read() -> set[str]:
    """The variables that the settings ask the environment for."""
    source = (ROOT / "healthcare" / "settings.py").read_text(encoding="utf-8")
    return set(re.findall(r"environment\.\w+\(\s*\"([A-Z_]+)\"", source))


def test_the_commands_of_the_readme_run_as_written_and_make_every_call(live: LiveServer, tmp_path: Path):
    log = install_recording_curl(tmp_path)
    script = "set -euo pipefail\n" + curl_commands().replace("http://127.0.0.1:8000", live.url)
    done = run_bash(script, path=str(tmp_path))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert calls_in(log.read_text()) == contract_calls()


def test_the_readme_names_every_setting_that_is_read():
    table = README[README.index("## Settings") : README.index("## Map")]
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == settings_read()


def test_the_example_names_every_setting_that_is_read():
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) == settings_read()


def test_the_readme_states_the_defaults_of_the_settings():
    source = (ROOT / "healthcare" / "settings.py").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `([A-Z_]+)` \| `(\d+)` \|", README, re.MULTILINE))
    read = dict(re.findall(r'environment\.whole\("([A-Z_]+)", (\d+)', source))
    assert stated == read


def test_every_file_that_the_documents_name_is_there():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_room_of_the_map_is_there():
    listed = README[README.index("## Map") : README.index("Every domain has the same files")]
    rooms = re.findall(r"^( *)([a-z_]+)/", listed, re.MULTILINE)
    assert len(rooms) >= 8
    for indented, name in rooms:
        assert (ROOT / ("healthcare" if indented else "") / name).is_dir(), name
