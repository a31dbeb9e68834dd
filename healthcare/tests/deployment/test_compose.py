"""deploy/compose fits the application. `scripts/lint_deploy/run` has Docker Compose read it; `scripts/image_dry_run`
runs the application with its secrets and its PgBouncer."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from healthcare.settings import VERSION
from healthcare.tests.deployment.commands import parse_command
from healthcare.tests.deployment.dockerfile import read_stages
from healthcare.tests.prometheus import needs_promtool, promtool
from healthcare.tests.test_docs import variables_read

ROOT = Path(settings.BASE_DIR)
COMPOSE = ROOT / "deploy" / "compose"


def read_compose() -> Any:
    return yaml.safe_load((COMPOSE / "compose.yml").read_text(encoding="utf-8"))


def test_the_application_and_the_migration_run_the_image_as_the_dry_run_does():
    image = read_stages(ROOT / "deploy" / "docker" / "Dockerfile")[-1]
    services = read_compose()["services"]
    for name, command in {"application": "serve", "migrate": "migrate"}.items():
        service = services[name]
        assert service["image"] == f"healthcare:{VERSION}"
        assert service["build"] == {"context": "../..", "dockerfile": "deploy/docker/Dockerfile"}
        assert service["command"][:2] == image.command[:2]
        assert parse_command(service["command"][2:]) == command
        assert set(service["environment"]) <= variables_read()
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"][0].startswith("/tmp:mode=1777")  # noqa: S108
    assert services["application"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_no_secret_has_a_default(tmp_path: Path):
    """All come from files, which `make-secrets` writes at random."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        subprocess.run([str(COMPOSE / "make-secrets"), str(folder)], check=True)
    one, two = ({path.name: path.read_text() for path in folder.iterdir()} for folder in folders)
    content = read_compose()
    named = {secret["file"].removeprefix("secrets/") for secret in content["secrets"].values()}
    assert named == set(one) == set(two)
    assert not set(one.values()) & set(two.values())
    assert set(re.findall("^([A-Z_]+)=", one["application.env"], re.MULTILINE)) < variables_read()
    assert f":{one['database_password'].strip()}@pgbouncer:6432/" in one["application.env"]
    for service in content["services"].values():
        for variable in service.get("environment", {}):
            assert not re.search("PASSWORD|KEY|URL|SECRET", variable) or variable.endswith("_FILE"), variable
    subprocess.run([str(COMPOSE / "make-secrets"), str(folders[0])], check=True)
    assert {path.name: path.read_text() for path in folders[0].iterdir()} == one
    assert folders[0].stat().st_mode & 0o777 == 0o700
    assert "deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_file_that_is_mounted_exists_and_only_a_proxy_of_this_machine_reaches_a_port():
    content = read_compose()
    for service in content["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in content["volumes"] or (COMPOSE / source).is_file(), volume
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    assert "ports" not in content["services"]["postgres"]
    assert content["networks"]["database"] == {"internal": True}


@needs_promtool
def test_prometheus_reads_its_configuration_with_the_alerts_of_the_project(tmp_path: Path):
    shutil.copy(COMPOSE / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "deploy" / "prometheus" / "alerts.yml", tmp_path)
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")
    [job] = yaml.safe_load((COMPOSE / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    port = read_compose()["services"]["application"]["environment"]["METRICS"].rpartition(":")[2]
    assert job["static_configs"] == [{"targets": [f"application:{port}"]}]
