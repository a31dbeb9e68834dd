"""A simulation of sharding by owner: the product's own requests, each sent to the database that holds its owner's rows.

Each shard is a database of the one PostgreSQL on this machine, and the router is `Router`, in this process. It shows
how the cost of a request to PostgreSQL changes with the number of owners and of shards. It does not show a network, a
coordinator such as that of Citus, or machines that share the work.
"""

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import psutil
from django.db import DEFAULT_DB_ALIAS, connections
from django.test import Client

from accounts.models import LoginSession, User
from accounts.tokens import issue_token_pair
from benchmarks import data, databases, process_tree, report
from benchmarks.terminal import show_status
from patients.models import Patient

SHARD_TEMPLATE = "benchmark_sharding"  # migrated, without rows
OWNER_COUNTS, SHARD_COUNTS = (20, 80), (1, 2, 4)
PATIENTS_OF_OWNER = 200
MEASURED_REQUESTS = 400  # of each kind, after so many others
WARM_UP = 100
PAGE_SIZE = 20


@dataclass
class Router:
    """Sends the caller of `use_shard_of` to the database of an owner: Django's default connection becomes that one."""

    names: list[str]
    shards: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in self.names:
            shard: Any = connections.create_connection(DEFAULT_DB_ALIAS)
            shard.settings_dict = {**shard.settings_dict, "NAME": name}
            self.shards.append(shard)

    def use_shard_of(self, owner: int) -> None:
        self.use(owner % len(self.shards))

    def use(self, number: int) -> None:
        connections[DEFAULT_DB_ALIAS] = self.shards[number]


@dataclass(frozen=True)
class SimulatedOwner:
    """With the ids and the names of the patients."""

    pk: int
    token: str
    patients: list[tuple[int, str]]


@contextmanager
def sharded(owners: int, shards: int) -> Iterator[tuple[Router, list[SimulatedOwner]]]:
    """So many databases, and the owners, whose rows are spread over them. Users and doctors are in all of them."""
    names = [f"{SHARD_TEMPLATE}_{number}" for number in range(shards)]
    unsharded = connections[DEFAULT_DB_ALIAS]
    unsharded.close()
    databases.drop_databases(names)
    with databases.open_cursor("postgres") as cursor:
        for name in names:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {SHARD_TEMPLATE}{databases.owned_by_login()}")
    router = Router(names)
    try:
        for number in range(shards):
            router.use(number)
            fill_shard(owners, shards, number)
        yield router, [start_login_session(router, owner) for owner in range(1, owners + 1)]
    finally:
        for shard in router.shards:
            shard.close()
        connections[DEFAULT_DB_ALIAS] = unsharded
        databases.drop_databases(names)


def prepare_template() -> None:
    connections[DEFAULT_DB_ALIAS].ensure_connection()  # starts the server if need be
    if not databases.is_filled(SHARD_TEMPLATE):
        databases.create_migrated_database(SHARD_TEMPLATE)
        databases.mark_as_filled(SHARD_TEMPLATE)
    databases.use_database("postgres")


def fill_shard(owners: int, shards: int, number: int) -> None:
    """Insert all users and doctors, and the patients of the owners of this shard. Ids are unique across shards."""
    numbers = {"doctors": 200, "stride": 2, "patients": owners * PATIENTS_OF_OWNER, "each": 0}
    of_shard = data.PATIENT_ROWS.replace(
        "CASE WHEN i %% %(stride)s = 0 THEN 1 ELSE 2 END", "1 + i %% %(owners)s"
    ).replace("AS drawn", "AS drawn WHERE (1 + i %% %(owners)s) %% %(shards)s = %(number)s")
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        for key in range(1, owners + 1):
            cursor.execute(data.USERS, [key, "!", f"Owner {key}", f"owner{key}@example.org", f"owner{key}"])
        cursor.execute(data.DOCTOR_ROWS, numbers)
        cursor.execute("SELECT setseed(0.5)")
        cursor.execute(of_shard, numbers | {"owners": owners, "shards": shards, "number": number})
        cursor.execute("SELECT setval(pg_get_serial_sequence('patients_patient', 'id'), %(patients)s)", numbers)
        cursor.execute("VACUUM ANALYZE")


def start_login_session(router: Router, key: int) -> SimulatedOwner:
    router.use_shard_of(key)
    session = LoginSession.objects.start(User.objects.get(pk=key), "benchmarks", "127.0.0.1")
    patients = list(Patient.objects.filter(created_by_id=key).order_by("pk").values_list("pk", "name"))
    return SimulatedOwner(key, issue_token_pair(session)["access"], patients)


def requests_of(random: Random, owner: SimulatedOwner) -> dict[str, tuple[str, str, str, int]]:
    """By operation method, path, body and status."""
    key, name = random.choice(owner.patients)
    address = f"{random.randrange(10**9)} Church Street, Bengaluru"
    return {
        "get one": ("GET", f"/api/patients/{key}/", "", 200),
        "list 20": ("GET", f"/api/patients/?limit={PAGE_SIZE}", "", 200),
        "search": ("GET", f"/api/patients/?search={quote(name)}&limit={PAGE_SIZE}", "", 200),
        "patch": ("PATCH", f"/api/patients/{key}/", json.dumps({"address": address}), 200),
        "create": ("POST", "/api/patients/", json.dumps({"name": "John Smith", "address": address}), 201),
    }


SIMULATED_REQUESTS = ("get one", "list 20", "search", "patch", "create")
ASKED_OF_EVERY_SHARD = "newest 20 of all owners, asked of every shard"


@dataclass(frozen=True)
class Cost:
    """Of a request, to PostgreSQL: CPU in µs and buffers."""

    cpu: float
    buffers: float

    def __str__(self) -> str:
        return f"{self.cpu:,.0f} / {self.buffers:,.0f}"


def measure_request(router: Router, postgresql: psutil.Process, call: Callable[[], None]) -> Cost:
    for _ in range(WARM_UP):
        call()
    buffers, cpu = count_buffers(router), process_tree.cpu_seconds(postgresql)
    for _ in range(MEASURED_REQUESTS):
        call()
    used = process_tree.cpu_seconds(postgresql) - cpu
    return Cost(used / MEASURED_REQUESTS * 1e6, (count_buffers(router) - buffers) / MEASURED_REQUESTS)


def count_buffers(router: Router) -> int:
    """Pages that the shards have read, in shared buffers or not, since their databases exist."""
    for shard in router.shards:
        with shard.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
    with databases.open_cursor("postgres") as cursor:
        cursor.execute(
            "SELECT sum(blks_hit + blks_read) FROM pg_stat_database WHERE datname = ANY (%s)", [router.names]
        )
        return int(cursor.fetchone()[0])


def measure_shards(owners: int, shards: int) -> dict[str, Cost]:
    costs = {}
    with sharded(owners, shards) as (router, people):
        postgresql = databases.find_server_process()
        random, client = Random(1), Client(SERVER_NAME="127.0.0.1")  # noqa: S311

        def send(operation: str) -> None:
            owner = random.choice(people)
            router.use_shard_of(owner.pk)
            method, path, body, status = requests_of(random, owner)[operation]
            answer = client.generic(
                method, path, body, "application/json", headers={"Authorization": f"Bearer {owner.token}"}
            )
            if answer.status_code != status:
                raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.content[:500]!r}")

        def ask_every_shard() -> None:
            found: list[tuple[int, str]] = []
            for number in range(shards):
                router.use(number)
                found += Patient.objects.order_by("-pk").values_list("pk", "name")[:PAGE_SIZE]
            if len(sorted(found, reverse=True)[:PAGE_SIZE]) != PAGE_SIZE:
                raise RuntimeError("The shards hold too few patients.")

        for operation in SIMULATED_REQUESTS:
            show_status(f"{owners} owners, {shards} shards: {operation}")
            costs[operation] = measure_request(router, postgresql, lambda name=operation: send(name))  # type: ignore[misc]
        costs[ASKED_OF_EVERY_SHARD] = measure_request(router, postgresql, ask_every_shard)
    return costs


def run(options: argparse.Namespace, folder: Path) -> str:
    """A table in Markdown."""
    prepare_template()
    logging.disable(logging.INFO)  # a line for each request
    columns = [(owners, shards) for owners in OWNER_COUNTS for shards in SHARD_COUNTS]
    costs = [measure_shards(*column) for column in columns]
    rows = [
        report.table_head(
            ["request"], [f"{owners} owners, {shards} shard{'s' if shards > 1 else ''}" for owners, shards in columns]
        )
    ]
    for operation in (*SIMULATED_REQUESTS, ASKED_OF_EVERY_SHARD):
        rows.append(report.row(operation, *(str(one[operation]) for one in costs)))
    return f"""# Sharding, simulated

{report.describe_machine()}. Each owner has {PATIENTS_OF_OWNER} patients.
CPU µs of PostgreSQL / buffers, a request, mean of
{MEASURED_REQUESTS} requests by owners who are drawn at random. Shards are databases of one PostgreSQL.

{chr(10).join(rows)}
"""
