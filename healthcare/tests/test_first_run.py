"""The first command on a bare machine creates .venv and .env, and reports what is missing in one sentence.

pip and uv create real environments and install a package that the test builds, so no network is needed. A test that is
not about the installer uses uv where it is installed: pip takes four seconds of CPU time for an environment, uv 0.3.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from healthcare.project import PROJECT

pytestmark = pytest.mark.slow

NO_UV = "/nowhere"  # a PATH without uv, so that venv and pip are used
# requirements-dev.txt installs uv beside the interpreter.
WITH_UV = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
NEEDS_UV = pytest.mark.skipif(not shutil.which("uv", path=WITH_UV), reason="requirements-dev.txt installs uv")
INSTALLERS = [pytest.param(NO_UV, id="pip"), pytest.param(WITH_UV, id="uv", marks=NEEDS_UV)]
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)
MANAGE = """\
import sys
from healthcare import first_run
try:
    first_run.enter_virtualenv(tests=sys.argv[1:2] == ["test"])
    if sys.argv[1:2] == ["serve"]:
        first_run.write_env_file()
except first_run.SetupError as error:
    sys.exit("manage.py: %s" % error)
import greeting
print("in", sys.prefix, greeting.VERSION, *sys.argv[1:])
"""


def build_wheel(folder: Path, version: str) -> None:
    """Build a wheel (PEP 427) of a package `greeting`."""
    information = f"greeting-{version}.dist-info"
    with zipfile.ZipFile(folder / f"greeting-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", f"VERSION = '{version}'\n")
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: greeting\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


class Project:
    """A project in a folder of its own whose only requirement is `greeting`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder.parent / "wheels"
        self.wheels.mkdir()
        (folder / "healthcare").mkdir(parents=True)
        (folder / "healthcare" / "__init__.py").touch()
        shutil.copytree(PROJECT / "healthcare" / "first_run", folder / "healthcare" / "first_run")
        shutil.copy(PROJECT / ".env.example", folder)
        (folder / "manage.py").write_text(MANAGE, encoding="utf-8")
        self.require("1.0")

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def require(self, version: str) -> None:
        """Ask for a version of the package and lock it."""
        build_wheel(self.wheels, version)
        (self.folder / "requirements.txt").write_text(f"greeting~={version}  # says hello\n", encoding="utf-8")
        self.lock(version, hashlib.sha256((self.wheels / f"greeting-{version}-py3-none-any.whl").read_bytes()))

    def lock(self, version: str, digest: "hashlib._Hash") -> None:
        text = f"greeting=={version} \\\n    --hash=sha256:{digest.hexdigest()}\n    # via -r requirements.txt\n"
        (self.folder / "requirements.lock").write_text(text, encoding="utf-8")

    def start(self, *arguments: str, python: str | Path = BASE_PYTHON, path: str = WITH_UV) -> subprocess.Popen[str]:
        wheels = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_OFFLINE": "1",
            "UV_FIND_LINKS": str(self.wheels),
        }
        return subprocess.Popen(
            [python, "manage.py", *arguments],
            cwd=self.folder,
            env={"PATH": path, "HOME": str(self.folder.parent), "PIP_CONFIG_FILE": os.devnull, **wheels},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, python: str | Path = BASE_PYTHON, path: str = WITH_UV
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, python=python, path=path)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def create_virtualenv(self, folder: Path) -> Path:
        subprocess.run([BASE_PYTHON, "-m", "venv", "--without-pip", str(folder)], check=True)
        return folder / "bin" / "python"


@pytest.fixture(scope="session")
def installed_virtualenv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that pip has installed, to be copied."""
    template = Project(tmp_path_factory.mktemp("template") / "project")
    done = template.run(path=NO_UV)
    assert "with venv" in done.stderr
    assert "with pip" in done.stderr
    assert done.returncode == 0, done.stderr
    return template.venv


@pytest.fixture
def installed(project: Project, installed_virtualenv: Path) -> Project:
    """A project whose first run has finished."""
    shutil.copytree(installed_virtualenv, project.venv, symlinks=True)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "dé ja")


def expected_output(project: Project, version: str = "1.0", *arguments: str) -> str:
    return " ".join(["in", str(project.venv), version, *arguments]) + "\n"


def test_a_bare_python_makes_the_environment_and_goes_on_in_it(project: Project) -> None:
    first = project.run("check", "--deploy", path=NO_UV)
    assert first.stdout == expected_output(project, "1.0", "check", "--deploy"), first.stderr
    assert "Creating .venv with venv" in first.stderr
    again = project.run("check")
    assert (again.stdout, again.stderr) == (expected_output(project, "1.0", "check"), "")


@NEEDS_UV
def test_uv_is_used_if_it_is_on_path(project: Project) -> None:
    done = project.run(path=WITH_UV)
    assert done.stdout == expected_output(project), done.stderr
    assert "with uv" in done.stderr


@pytest.mark.parametrize("path", INSTALLERS)
def test_new_requirements_are_installed(installed: Project, path: str) -> None:
    installed.require("2.0")
    assert installed.run(path=path).stdout == expected_output(installed, "2.0")


def test_new_requirements_are_installed_from_inside_the_environment_too(installed: Project) -> None:
    installed.require("2.0")
    assert installed.run(python=installed.venv / "bin" / "python").stdout == expected_output(installed, "2.0")


@pytest.mark.parametrize("path", INSTALLERS)
def test_a_package_whose_hash_is_not_the_locked_one_is_not_installed(installed: Project, path: str) -> None:
    installed.require("2.0")
    installed.lock("2.0", hashlib.sha256(b"another file"))
    done = installed.run(path=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not have the hash that requirements.lock states" in done.stderr.splitlines()[-1]
    assert not list(installed.venv.glob("lib/*/site-packages/greeting-2.0*"))


def test_a_requirement_that_is_not_locked_stops_the_installation(installed: Project) -> None:
    with (installed.folder / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("some_package~=1.0\n")
    done = installed.run()
    sentence = "manage.py: requirements.lock lacks some-package of requirements.txt; run `scripts/lock`."
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, sentence)


def test_an_installation_killed_half_way_is_repaired(project: Project) -> None:
    process = project.start(path=NO_UV)
    while not (project.venv / "lib").exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert project.run().stdout == expected_output(project)


@pytest.mark.parametrize("leftover", ["empty", "no interpreter", "dangling interpreter"])
def test_a_broken_managed_environment_is_recreated(installed: Project, leftover: str) -> None:
    project = installed
    shutil.rmtree(project.venv if leftover == "empty" else project.venv / "bin")
    if leftover == "empty":
        project.venv.mkdir()
    if leftover == "dangling interpreter":
        (project.venv / "bin").mkdir()
        (project.venv / "bin" / "python").symlink_to("/nowhere/python")
    assert project.run().stdout == expected_output(project)


def test_two_first_runs_at_once_wait_for_each_other(project: Project) -> None:
    both = [project.start("check") for _ in range(2)]
    assert [process.communicate()[0] for process in both] == [expected_output(project, "1.0", "check")] * 2


def test_an_active_environment_without_the_packages_is_left_alone(project: Project, tmp_path: Path) -> None:
    python = project.create_virtualenv(tmp_path / "own")
    done = project.run(python=python)
    sentence = "manage.py: this environment lacks packages; run `pip install -r requirements.txt` in it.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    assert not project.venv.exists()


def test_a_dot_venv_of_the_users_own_is_used_and_not_changed(project: Project) -> None:
    project.create_virtualenv(project.venv)
    done = project.run()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install -r requirements.txt" in done.stderr
    [packages] = (project.venv / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(project.wheels / "greeting-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(packages)
    assert project.run().stdout == expected_output(project)
    assert not list(project.venv.glob("managed-by*"))


def test_only_the_tests_need_the_packages_of_the_tests(project: Project, tmp_path: Path) -> None:
    """As in an environment that was installed from requirements-production.lock."""
    with (project.folder / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("\n# The tests\nsome_test_tool~=1.0\n")
    python = project.create_virtualenv(tmp_path / "own")
    [packages] = (tmp_path / "own" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(project.wheels / "greeting-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(packages)
    assert project.run("serve", python=python).returncode == 0
    done = project.run("test", python=python)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "pip install -r requirements.txt" in done.stderr


@pytest.mark.parametrize("path", INSTALLERS)
def test_packages_that_cannot_be_installed_are_reported_in_one_sentence(project: Project, path: str) -> None:
    shutil.rmtree(project.wheels)
    done = project.run(path=path)
    assert done.returncode == 1
    assert "manage.py: the packages could not be installed (" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    project.wheels.mkdir()
    project.require("1.0")
    assert project.run().stdout == expected_output(project)


def test_without_ensurepip_the_message_says_what_to_install(project: Project, tmp_path: Path) -> None:
    libraries = Path(os.__file__).parent
    bare = tmp_path / "bare"
    shutil.copytree(Path(sys.base_prefix) / "bin", bare / "bin", symlinks=True)
    (bare / "lib").mkdir()
    skipped = shutil.ignore_patterns(
        "ensurepip", "site-packages", "test", "__pycache__", "idlelib", "lib2to3", "config-*"
    )
    shutil.copytree(libraries, bare / "lib" / libraries.name, ignore=skipped, symlinks=True)
    done = project.run(path=NO_UV, python=bare / "bin" / Path(BASE_PYTHON).name)
    assert done.returncode == 1
    assert done.stderr.startswith("manage.py: this Python")
    assert done.stderr.count("\n") == 1
    assert "venv" in done.stderr
    assert not project.venv.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [("ro", "lies on a read-only file system"), ("size=2m", "there is no space left on the disk")],
)
def test_a_disk_that_cannot_be_written_is_reported_in_one_sentence(
    project: Project, options: str, sentence: str
) -> None:
    copy = project.folder.with_name("copy")
    shutil.copytree(project.folder, copy)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(project.folder)]).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        shutil.copytree(copy, project.folder, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", f"remount,{options}", str(project.folder)], check=True)
        done = project.run(path=NO_UV)
        assert done.returncode == 1
        assert sentence in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    finally:
        subprocess.run(["umount", str(project.folder)], check=True)


def test_serve_writes_safe_settings_that_only_the_owner_can_read(installed: Project) -> None:
    project = installed
    project.run("serve")
    text = (project.folder / ".env").read_text(encoding="utf-8")
    values = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    key = values.pop("SECRET_KEY")
    assert len(key) >= 50
    assert values == {"DEBUG": "False", "ALLOWED_HOSTS": "localhost,127.0.0.1,[::1]", "HTTPS": "False"}
    assert stat.S_IMODE((project.folder / ".env").stat().st_mode) == 0o600
    assert "# DATABASE_URL=" in text
    project.run("serve")
    assert key in (project.folder / ".env").read_text(encoding="utf-8")


def test_only_serve_writes_settings(installed: Project) -> None:
    assert installed.run("check").returncode == 0
    assert not (installed.folder / ".env").exists()


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.10"])
def test_an_old_python_is_refused_in_one_sentence(version: str) -> None:
    by_pyenv = [str(python) for python in Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python")]
    python = by_pyenv[0] if by_pyenv else shutil.which(f"python{version}")
    # pyenv puts a shim on PATH for each version that it has, which fails unless the version is chosen.
    if not python or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} on this machine")
    done = subprocess.run([python, "manage.py", "check"], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        f"manage.py: Python 3.11 or newer is needed, and this is {version}; try python3.11.\n",
    )


@pytest.mark.parametrize("name", ["requirements.txt", "requirements.lock"])
def test_a_change_of_either_requirements_file_installs_again(installed: Project, name: str) -> None:
    with (installed.folder / name).open("a", encoding="utf-8") as file:
        file.write("# another comment\n")
    assert "Installing the 1 packages" in installed.run().stderr
    assert installed.run().stderr == ""


@pytest.mark.parametrize(
    ("name", "value"), [("DEBUG", "perhaps"), ("DATABASE_URL", "mysql://localhost/x"), ("SECRET_KEY", "short")]
)
def test_a_bad_setting_stops_every_command_with_one_sentence(name: str, value: str) -> None:
    for command in (["check"], ["migrate"], ["serve", "1"], ["shell", "-c", "1"]):
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=PROJECT,
            env={**os.environ, name: value},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, command
        assert done.stderr.startswith(f"manage.py: {name} "), done.stderr
        assert done.stderr.count("\n") == 1


def test_an_unreachable_database_is_reported_in_one_sentence_without_its_password() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate"],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": "postgres://somebody:pa55word@127.0.0.1:1/healthcare"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("manage.py: the database that DATABASE_URL names cannot be reached: ")
    assert done.stderr.count("\n") == 1
    assert "pa55word" not in done.stderr
