"""Rows a second of an import by the API and by the command, beside plain COPY and beside single POSTs; with `--large`
the memory of a large import and of a large export as well."""

import argparse
import csv
import http.client
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import psutil

from benchmarks import databases, process_tree, report
from benchmarks.data import FEW_OTHERS, OTHERS
from benchmarks.servers import ENVIRONMENT
from benchmarks.terminal import show_status
from benchmarks.testbed import Testbed, start_testbed
from healthcare.project import PROJECT

ROWS, LARGE_IMPORT = 20_000, 100_000
POSTS = 500  # single requests of a round
MIB = 2**20
COLUMNS = ("name", "gender", "birth_date", "identifier", "phone", "email", "address")
# Syllables of family names, and given names.
BEGINNINGS = (
    "b",
    "br",
    "ch",
    "d",
    "f",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "sch",
    "t",
    "tr",
    "w",
)
MIDDLES = ("a", "aa", "ai", "an", "ar", "e", "ei", "el", "en", "er", "i", "in", "o", "on", "or", "ou", "u", "un")
ENDS = (
    "ba",
    "da",
    "fer",
    "ga",
    "hn",
    "kar",
    "ler",
    "mann",
    "na",
    "ner",
    "rao",
    "sen",
    "ski",
    "son",
    "ta",
    "ton",
    "wal",
)
GIVEN = (
    "Asha", "Ben", "Carla", "Dev", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kavya", "Liam", "Mina", "Noor",
    "Omar", "Priya", "Quinn", "Ravi", "Sofia", "Tom",
)  # fmt: skip


def make_patient(random: Random, number: int) -> dict[str, str]:
    family = random.choice(BEGINNINGS) + random.choice(MIDDLES) + random.choice(ENDS)
    born = date(1930, 1, 1) + timedelta(days=random.randrange(33_000))
    return {
        "name": f"{random.choice(GIVEN)} {family.title()}",
        "gender": random.choice("FMOU"),
        "birth_date": born.isoformat(),
        "identifier": f"IMPORT-{number}",
        "phone": f"+91 97{random.randrange(10**8):08}",
        "email": f"import{number}@example.org",
        "address": f"{number} Lake Road, Bengaluru",
    }


class Patients:
    """Ever more patients, none of whom comes twice."""

    def __init__(self) -> None:
        self.random, self.number = Random(1), 0  # noqa: S311

    def next(self, rows: int) -> list[dict[str, str]]:
        self.number += rows
        return [make_patient(self.random, number) for number in range(self.number - rows, self.number)]

    def as_csv(self, rows: int) -> bytes:
        return written(self.next(rows), COLUMNS)


def written(rows: list[dict[str, str]], columns: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@dataclass(frozen=True)
class Measured:
    """Of rows that were written: a second, and in CPU µs each."""

    rate: float
    cpu: float


@dataclass
class Ways:
    """How patients get into the table of a running server. Each way takes a file's bytes or rows that were made before
    the clock starts."""

    testbed: Testbed
    database: str
    url: str
    folder: Path
    patients: Patients = field(default_factory=Patients)

    @property
    def owner(self) -> int:
        return 1  # the caller

    def copy(self, rows: int) -> Measured:
        now = "2026-01-01T00:00:00Z"
        more = {
            "created_by_id": str(self.owner), "identifiers": "[]", "alternate_phone": "", "language": "",
            "contacts": "[]", "medical_history": "", "created_at": now, "updated_at": now, "version": "1",
        }  # fmt: skip
        made = [one | {"birth_year": one["birth_date"][:4]} | more for one in self.patients.next(rows)]
        # An empty text is quoted, because CSV's unquoted one is NULL to COPY.
        text = io.StringIO()
        writer = csv.DictWriter(text, made[0], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({name: row[name] for name in made[0]} for row in made)
        text.seek(0)
        names = ", ".join(made[0])
        with databases.open_cursor(self.database) as cursor, self.measured(rows, None) as result:
            cursor.copy_expert(f"COPY patients_patient ({names}) FROM STDIN WITH (FORMAT csv, HEADER)", text)
        return result()

    def api(self, rows: int) -> Measured:
        body = self.patients.as_csv(rows)
        with self.measured(rows, self.testbed.servers[0].process) as result:
            answer = self.post("/api/patients/import/?mode=apply", body, "text/csv", http.client.HTTPConnection)
        check_summary(answer["summary"], rows)
        return result()

    def command(self, rows: int) -> Measured:
        file = self.folder / "import.csv"
        file.write_bytes(self.patients.as_csv(rows))
        with self.measured(rows, psutil.Process()) as result:
            run_command(self.url, "import_records", "patients", str(file), "--owner", "caller", "--apply")
        return result()

    def posts(self, rows: int) -> Measured:
        bodies = [json.dumps(one).encode() for one in self.patients.next(min(rows, POSTS))]
        connection = http.client.HTTPConnection("127.0.0.1", self.testbed.servers[0].port, timeout=60)
        with self.measured(len(bodies), self.testbed.servers[0].process) as result:
            for body in bodies:
                self.post("/api/patients/", body, "application/json", lambda *_, **__: connection, 201)
        connection.close()
        return result()

    def post(self, path: str, body: bytes, media_type: str, connect: Any, status: int = 200) -> Any:
        connection = connect("127.0.0.1", self.testbed.servers[0].port, timeout=600)
        headers = {"Authorization": f"Bearer {self.testbed.caller.token}", "Content-Type": media_type}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != status:
            raise RuntimeError(f"POST {path} answered {answer.status}: {content[:500]!r}")
        return json.loads(content)

    @contextmanager
    def measured(self, rows: int, application: psutil.Process | None) -> Iterator[Callable[[], Measured]]:
        """The block's time and the CPU time of PostgreSQL and of this application meanwhile."""
        processes = [self.testbed.postgresql, *([application] if application else [])]
        before = sum(process_tree.cpu_seconds(one) for one in processes)
        began = time.perf_counter()
        taken: list[Measured] = []
        yield lambda: taken[0]
        seconds = time.perf_counter() - began
        cpu = sum(process_tree.cpu_seconds(one) for one in processes) - before
        taken.append(Measured(rows / seconds, cpu / rows * 1e6))


def check_summary(summary: dict[str, int], rows: int) -> None:
    """Raises RuntimeError unless all rows were created, but for a few that are likely known already."""
    if summary["created"] + summary["likely"] != rows or summary["likely"] > rows / 100:
        raise RuntimeError(f"The import of {rows} rows answered {summary}.")


def run_command(url: str, *arguments: str, **settings: str) -> None:
    """Raises RuntimeError for a command of manage.py that fails."""
    environment = {**os.environ, **ENVIRONMENT, **settings, "DATABASE_URL": url}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"manage.py {arguments[0]} failed: {done.stdout[-500:]} {done.stderr[-2000:]}")


def run(options: argparse.Namespace, folder: Path) -> str:
    """The report."""
    lines = []
    with start_testbed(folder, ["ours"], FEW_OTHERS) as testbed:
        database = databases.copy_name("product", FEW_OTHERS)
        ways = Ways(testbed, database, databases.url_of(database), folder)
        measured = measure(ways, options.patients, options.rounds)
        lines += [rate_table(measured)]
        if options.large:
            lines += ["", large_import(ways)]
    if options.large:
        with start_testbed(folder, ["ours"], OTHERS, ["large"]) as testbed:
            lines += ["", large_export(testbed)]
    return f"""# Imports

{report.describe_machine()}. Medians of {options.rounds} interleaved rounds; ratios are taken round by round,
with the least and the largest in brackets. An import has {options.patients:,} patients with names, dates of
birth, numbers, phones and e-mails, for an owner of 10,000 and more. Single POSTs are {POSTS} a round, one
after another on one connection. COPY writes the same columns into the table itself, with its indexes and the
triggers of history and search; it checks nothing and looks for no duplicates.

{chr(10).join(lines)}
"""


def measure(ways: Ways, rows: int, rounds: int) -> dict[str, list[Measured]]:
    contenders = {
        "COPY": ways.copy,
        "import by the API": ways.api,
        "import by the command": ways.command,
        "single POSTs": ways.posts,
    }
    ways.api(POSTS)  # warms the server up
    measured: dict[str, list[Measured]] = {name: [] for name in contenders}
    for turn in range(1, rounds + 1):
        for name, way in contenders.items():
            show_status(f"round {turn} of {rounds}: {name}")
            measured[name].append(way(rows))
    show_status("")
    return measured


def rate_table(measured: dict[str, list[Measured]]) -> str:
    copies, posts = measured["COPY"], measured["single POSTs"]
    rows = [report.table_head([""], ["rows/s", "CPU µs a row", "rows/s to COPY", "rows/s to single POSTs"])]
    for name, taken in measured.items():
        rows.append(
            report.row(
                name,
                f"{median(one.rate for one in taken):,.0f}",
                f"{median(one.cpu for one in taken):,.0f}",
                rates(taken, copies) if taken is not copies else "",
                rates(taken, posts) if taken is not posts else "",
            )
        )
    return "\n".join(rows)


def rates(above: list[Measured], below: list[Measured]) -> str:
    return report.with_spread(sorted(a.rate / b.rate for a, b in zip(above, below, strict=True)))


@dataclass
class Peak:
    """The largest resident memory, in bytes, of a process that is watched, with its descendants one by one."""

    before: int = 0
    largest: int = 0


@contextmanager
def watched(process: psutil.Process) -> Iterator[Peak]:
    peak = Peak(max(process_tree.resident_bytes(process), default=0))
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak.largest = max(peak.largest, *process_tree.resident_bytes(process), 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def large_import(ways: Ways) -> str:
    """100,000 patients by the command, and the memory of its process."""
    show_status(f"import of {LARGE_IMPORT:,} patients")
    file = ways.folder / "import.csv"
    file.write_bytes(ways.patients.as_csv(LARGE_IMPORT))
    environment = {**os.environ, **ENVIRONMENT, "DATABASE_URL": ways.url}
    command = [sys.executable, "manage.py", "import_records", "patients", str(file), "--owner", "caller", "--apply"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with watched(psutil.Process(process.pid)) as peak:
        status = process.wait()
    seconds = time.perf_counter() - began
    if status:
        raise RuntimeError(f"import_records ended with {status}.")
    return f"Import of {LARGE_IMPORT:,} patients by the command: {seconds:.0f} s, at most {in_mib(peak.largest)} (RSS)."


def large_export(testbed: Testbed) -> str:
    """1,000,000 patients by the API, and the memory of the server's largest process."""
    server = testbed.servers[0]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    began, size, rows = time.perf_counter(), 0, -1  # the header
    with watched(server.process) as peak:
        headers = {"Authorization": f"Bearer {testbed.callers['large'].token}", "Accept": "text/csv"}
        connection.request("GET", "/api/patients/export/", headers=headers)
        answer = connection.getresponse()
        while part := answer.read(MIB):
            size += len(part)
            rows += part.count(b"\n")
    seconds = time.perf_counter() - began
    if answer.status != 200 or rows < OTHERS:
        raise RuntimeError(f"The export answered {answer.status} with {rows} lines.")
    return (
        f"Export of {rows:,} patients by the API: {seconds:.0f} s, {rows / seconds:,.0f} rows/s, {size / MIB:.0f} MiB; "
        f"the largest process of the server held {in_mib(peak.before)} before and {in_mib(peak.largest)} at most (RSS)."
    )


def in_mib(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
