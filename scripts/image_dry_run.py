#!/usr/bin/env python3
"""See scripts/image_dry_run, which starts this in a mount namespace of its own.

In place of the image that the Dockerfile starts from stands this machine's root file system, under an overlay for each
stage, with the folders of the project and of the accounts hidden.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from drill_servers import PROJECT, Api, DrillPostgres, check, eventually, step

sys.path.insert(0, str(PROJECT))

from deploy.cluster.programs import find_system_program  # noqa: E402
from healthcare.embedded.binaries import find_binaries  # noqa: E402
from healthcare.tests.deployment.dockerfile import Stage, context_files, read_stages  # noqa: E402
from healthcare.tests.live import free_port  # noqa: E402

DOCKERFILE = PROJECT / "deploy" / "docker" / "Dockerfile"
HIDDEN_FOLDERS = (str(PROJECT), "/home", "/srv", "/tmp")  # noqa: S108  (of this machine)
BASE_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
COMPOSE = PROJECT / "deploy" / "compose"
FILE_CALLS = "open,openat,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,symlink,symlinkat,link,linkat"
WRITING_CALL = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|^(?!open)")  # in a call's name and arguments
TRACED_CALL = re.compile(r'^\d+ +(\w+\((?:[^"]*)"([^"]+)".*)$', re.MULTILINE)
WRITABLE_PATHS = re.compile("/(tmp|dev|proc/self)(/|$)")


def run(*command: str, fails: bool = False, **options: Any) -> str:
    """What the command prints on stdout, or on stderr if it must fail."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # noqa: S603
    check((done.returncode != 0) == fails, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return str(done.stderr if fails else done.stdout)


def system_program(name: str) -> str:
    return find_system_program(name) or name


class Root:
    """The root file system of a stage, which changes nothing of this machine's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.work = folder, folder / "root", "/"
        self.variables = {"PATH": BASE_PATH}
        for name in ("root", "upper", "work"):
            (folder / name).mkdir(parents=True)
        overlay = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
        run("mount", "-t", "overlay", "overlay", "-o", overlay, str(self.path))
        self.install_python()
        for hidden in HIDDEN_FOLDERS:
            if (self.path / hidden[1:]).is_dir():
                run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{self.path}{hidden}")
        for kept in ("/dev", "/proc"):
            run("mount", "--rbind", kept, f"{self.path}{kept}")

    def install_python(self) -> None:
        """Let every account run this Python, as `python`."""
        python = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}").resolve()
        self.variables["PATH"] = f"{python.parent}:{BASE_PATH}"
        name = self.path / str(python.parent)[1:] / "python"
        if not name.exists():
            name.symlink_to(python)
        for parent in python.parents[:-1]:
            inside = self.path / str(parent)[1:]
            inside.chmod(inside.stat().st_mode | 0o555)

    def inside(self, path: str) -> Path:
        return self.path / os.path.normpath(os.path.join(self.work, path))[1:]

    def copy(self, source: Path, target: str) -> None:
        """COPY: a file into a folder, or what is in a folder into another one."""
        if source.is_dir():
            run("cp", "--archive", "--no-target-directory", f"{source}/", str(self.inside(target)))
        else:
            run("cp", "--archive", str(source), str(self.inside(target)))

    def execute(self, instruction: str, arguments: str, roots: dict[str, "Root"], context: Path) -> None:
        if instruction == "WORKDIR":
            self.work = arguments
            self.inside(".").mkdir(parents=True, exist_ok=True)
        elif instruction == "RUN":
            # pip reads its index from the variables of this machine, as a builder passes those of a proxy.
            given = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
            command = f"cd {self.work} && {arguments}"
            run("chroot", str(self.path), "/bin/sh", "-c", command, env={**given, **self.variables})
        elif instruction == "COPY":
            words = arguments.split()
            origin = context
            if words[0].startswith("--from="):
                origin = roots[words.pop(0).removeprefix("--from=")].path
            for source in words[:-1]:
                self.copy(origin / source.lstrip("/"), words[-1])

    def build(self, stage: Stage, roots: dict[str, "Root"], context: Path) -> None:
        for instruction, arguments in stage.instructions:
            self.execute(instruction, arguments, roots, context)
        self.variables |= stage.variables

    def make_read_only(self) -> None:
        run("mount", "-o", "remount,ro", str(self.path))


class Container:
    """Commands in the read-only root, each as the first process of a namespace, as the image's user."""

    def __init__(self, root: Root, user: str, settings: dict[str, str], trace: Path) -> None:
        self.root, self.user, self.trace = root, user, trace
        self.environment = {**root.variables, **settings}

    def command(self, *words: str, prefix: tuple[str, ...] = ()) -> list[str]:
        number, group = self.user.split(":")
        unshare, chroot, setpriv = map(system_program, ("unshare", "chroot", "setpriv"))
        limits = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups"]
        shell = f'cd {self.root.work} && exec "$@"'
        return [
            *prefix, unshare, "--pid", "--fork", "--kill-child", chroot, str(self.root.path),
            setpriv, f"--reuid={number}", f"--regid={group}", *limits, "/bin/sh", "-c", shell, "sh", *words,
        ]  # fmt: skip

    def run(self, *words: str, fails: bool = False) -> str:
        return run(*self.command(*words), env=self.environment, fails=fails)

    def start(self, *words: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a command whose calls that change files are recorded."""
        recording = ["-f", "--seccomp-bpf", "-s", "4096", "-e", f"trace={FILE_CALLS}", "-o", str(self.trace)]
        command = self.command(*words, prefix=(system_program("strace"), *recording))
        with log.open("wb") as output:
            return subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)  # noqa: S603

    def first_process(self, process: "subprocess.Popen[bytes]") -> psutil.Process:
        """The process that has number 1 in its namespace."""
        [unshare] = psutil.Process(process.pid).children()
        [first] = unshare.children()
        return first

    def write_attempts(self) -> list[str]:
        """The paths outside of /tmp that a process has tried to change."""
        found = []
        for call, path in TRACED_CALL.findall(self.trace.read_text(errors="replace")):
            absolute = os.path.normpath(os.path.join(self.root.work, path))
            if WRITING_CALL.search(call) and not WRITABLE_PATHS.match(absolute):
                found.append(call)
        return found


def prepare_database(folder: Path, password: str) -> DrillPostgres:
    programs = Path(find_binaries().program("postgres")).parent
    postgres = DrillPostgres(programs, folder)
    postgres.execute("postgres", "DROP ROLE healthcare")
    script = PROJECT / "deploy" / "postgres" / "roles.sql"
    run(
        str(programs / "psql"), "--no-psqlrc", "--host", str(folder), "--username", "postgres", "--dbname", "postgres",
        "--set", f"password={password}", "--file", str(script),
    )  # fmt: skip
    return postgres


@contextmanager
def running_compose_pgbouncer(folder: Path, database: Path, users: str) -> Iterator[int]:
    """PgBouncer as compose.yml has it, on a free port; only addresses and files are replaced."""
    port = free_port()
    configuration = (COMPOSE / "pgbouncer.ini").read_text()
    changes = {
        "host=postgres port=5432": f"host={database} port=5432",
        "listen_addr = *": "listen_addr = 127.0.0.1",
        "listen_port = 6432": f"listen_port = {port}",
        "/run/secrets/pgbouncer_users": f"{folder}/users",
    }
    for old, new in changes.items():
        check(old in configuration, f"pgbouncer.ini has no {old}")
        configuration = configuration.replace(old, new)
    folder.mkdir()
    (folder / "users").write_text(users)
    (folder / "pgbouncer.ini").write_text(configuration)
    process = subprocess.Popen(  # noqa: S603
        [system_program("pgbouncer"), "--quiet", str(folder / "pgbouncer.ini")], user="postgres"
    )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(60)


def copy_context(folder: Path) -> Path:
    for path in context_files(PROJECT):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / path, folder / path)
    return folder


def use_api(api: Api) -> None:
    api.register("alice")
    api.log_in("alice")
    patient = api.call("POST", "/api/patients/", {"name": "John Smith", "age": 34}, "alice", 201)
    check(api.call("GET", f"/api/patients/{patient['id']}/", user="alice")[0] == 200, "the patient is not found")
    # Larger than what stays in memory, so that it is written to /tmp.
    rows = "".join(f'{{"name": "Patient {number}", "address": "{"x" * 400}"}}\n' for number in range(4000))
    client = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    headers = {"Authorization": f"Bearer {api.tokens['alice']['access']}", "Content-Type": "application/x-ndjson"}
    client.request("POST", "/api/patients/import/", rows, headers)
    answer = client.getresponse()
    text = answer.read().decode()
    check(answer.status == 200, f"the import answered {answer.status} {text[:300]}")
    for path in ("/static/admin/css/base.css", "/api/docs/", "/admin/login/"):
        client.request("GET", path)
        answer = client.getresponse()
        answer.read()
        check(answer.status == 200, f"{path} answered {answer.status}")
    client.close()


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="hc-"))
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))  # an overlay cannot lie on another one
    try:
        build_and_run(folder)
    finally:
        run("umount", "--lazy", "--recursive", str(folder))
        folder.rmdir()
    step("passed")


def build_and_run(folder: Path) -> None:
    context = copy_context(folder / "context")
    roots: dict[str, Root] = {}
    stages = read_stages(DOCKERFILE)
    for number, stage in enumerate(stages):
        step(f"stage {stage.name or number}, on this machine in place of {stage.base}")
        root = roots[stage.name or str(number)] = Root(folder / f"stage-{number}")
        root.build(stage, roots, context)
    step("PostgreSQL by deploy/postgres/roles.sql, PgBouncer and secrets by deploy/compose")
    run(str(COMPOSE / "make-secrets"), str(folder / "secrets"))
    secrets = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    postgres = prepare_database(folder / "postgres", secrets["database_password"].strip())
    try:
        with running_compose_pgbouncer(folder / "pgbouncer", folder / "postgres", secrets["pgbouncer_users"]) as port:
            settings = secrets["application.env"].replace("@pgbouncer:6432/", f"@127.0.0.1:{port}/")
            root.inside("/app/.env").write_text(settings)
            (root.path / "run/postgresql").mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", str(folder / "postgres"), f"{root.path}/run/postgresql")
            root.make_read_only()
            check_container(stages[-1], root, folder)
    finally:
        postgres.stop()


def check_container(image: Stage, root: Root, folder: Path) -> None:
    port = free_port()
    # Beside those of /app/.env. HTTPS would need a proxy.
    settings = {"ALLOWED_HOSTS": "127.0.0.1", "HTTPS": "False", "LOG_FORMAT": "json", "DRAIN_SECONDS": "1"}
    container = Container(root, image.last("USER"), settings, folder / "trace")
    check("Read-only file system" in container.run("touch", "/app/file", fails=True), "/app can be written to")
    found = container.run("python", "-c", "import importlib.metadata as m; print([d.name for d in m.distributions()])")
    check("'Django'" in found or "'django'" in found, f"no Django in {found}")
    check(not re.search(r"'(pip|pytest|hypothesis)'", found), f"tools in the image: {found}")
    refusal = container.run("env", "DATABASE_URL=", "python", "manage.py", "migrate", fails=True)
    check(refusal.startswith("manage.py: ") and len(refusal.splitlines()) == 1, refusal)
    step(f"without DATABASE_URL: {refusal.strip()}")
    step("migrate")
    direct = "DATABASE_URL=postgres://healthcare@/healthcare?host=/run/postgresql"
    container.run("env", direct, "python", "manage.py", "migrate", "--verbosity", "0")
    step("serve")
    log = folder / "log"
    command = [word.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for word in image.command]
    process = container.start(*command, log=log)
    api = Api(port)

    def ready() -> bool:
        check(process.poll() is None, f"the server ended: {log.read_text()}")
        with suppress(OSError, http.client.HTTPException):
            return bool(api.call("GET", "/readyz")[0] == 200)
        return False

    try:
        eventually(ready)
        use_api(api)
        container.run(*[word.replace(":8000", f":{port}") for word in image.health_check])
        first = container.first_process(process)
        check(first.uids().real == 10001, f"the server runs as {first.uids()}")
        step("stop")
        first.send_signal(signal.SIGTERM)
        check(process.wait(60) == 0, f"the server ended with {process.returncode}: {log.read_text()}")
    finally:
        if process.poll() is None:
            process.kill()
    text = log.read_text()
    check("Traceback" not in text and "Read-only" not in text and "Permission" not in text, text)
    attempts = container.write_attempts()
    check(not attempts, "write attempts outside of /tmp: " + json.dumps(attempts[:10], indent=1))
    check("O_TMPFILE" in container.trace.read_text(errors="replace"), "the import's body was not recorded")


if __name__ == "__main__":
    main()
