"""deploy/helm fits the application. `scripts/lint_deploy/run` has Helm render it; no cluster has had it."""

import re
from pathlib import Path

import yaml
from django.conf import settings
from django.urls import resolve

from healthcare.settings import VERSION
from healthcare.tests.deployment.commands import parse_command
from healthcare.tests.deployment.dockerfile import read_stages
from healthcare.tests.test_docs import variables_read

ROOT = Path(settings.BASE_DIR)
CHART = ROOT / "deploy" / "helm" / "healthcare"
CHART_TEMPLATES = {path.name: path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir()}


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_every_command_of_the_chart_is_one_of_manage_py():
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    found = [
        re.sub("{{[^}]*}}", "2", words) for words in re.findall(r"args: \[(.*)\]", "".join(CHART_TEMPLATES.values()))
    ]
    words = [list(map(str, yaml.safe_load(f"[{each}]"))) for each in found]
    words += [["python", "manage.py", *job["command"]] for job in values["jobs"].values()]
    assert all(each[:2] == ["python", "manage.py"] for each in words)
    assert {parse_command(each[2:]) for each in words} == {"serve", "migrate", "tidy", "seal_audit"}


def test_the_probes_and_the_user_are_those_of_the_application_and_the_image():
    paths = set(re.findall(r"httpGet: { path: (\S+),", CHART_TEMPLATES["deployment.yaml"]))
    assert paths == {"/healthz", "/readyz"}
    assert all(resolve(path) for path in paths)
    image = read_stages(ROOT / "deploy" / "docker" / "Dockerfile")[-1]
    assert f"runAsUser: {image.last('USER').partition(':')[0]}\n" in CHART_TEMPLATES["_helpers.tpl"]
    assert set(re.findall(r"- { name: ([A-Z_]+), value", CHART_TEMPLATES["_helpers.tpl"])) < variables_read()
