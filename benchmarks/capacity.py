"""What a request and a record cost, and the machines, disks and money that so many users therefore need.

`measure_inputs` finds the costs on this machine, and `--save` writes them to capacity.json. All else is arithmetic on
those figures and on `Assumptions`; docs/capacity.md shows the tables.
"""

import argparse
import json
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from math import ceil
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import databases, equal_answers, process_tree, report
from benchmarks.imports import run_command
from benchmarks.load import Contender, send_load, warm_up, with_current_tags
from benchmarks.operations import plain_requests
from benchmarks.terminal import print_line, show_status
from benchmarks.testbed import Testbed, start_testbed

INPUTS_FILE = Path(__file__).with_name("capacity.json")
USER_COUNTS = (10_000, 1_000_000, 100_000_000)
SECONDS_OF_DAY, DAYS_OF_YEAR = 86_400, 365
GB = 10**9
AFTER_CHECKPOINT = range(100, 120)  # members of the sample, each of which is sent right after a checkpoint

# Of 1,000 requests, how many are of each kind.
MIX = {
    "get one": 480,
    "list 20": 250,
    "search hit": 50,
    "public doctors": 80,
    "a patient's doctors": 70,
    "patch": 49,
    "create": 1,
    "login": 20,
}


@dataclass(frozen=True)
class OperationCost:
    """Of one request: CPU in µs, write-ahead log in bytes, full-page images of the log right after a checkpoint in
    bytes, bytes and rows that stay in the access log and in history, and transaction ids."""

    application: float
    postgresql: float
    wal: float
    images: float
    access_log: float
    history: float
    rows: float
    transactions: float


@dataclass(frozen=True)
class Inputs:
    """All that is measured. Sizes are bytes with their indexes; `seal` and `verify` are CPU µs of a row of history or
    access log; `backup` is the size of a backup beside that of its database, of rows that are made up."""

    machine: str
    operations: dict[str, OperationCost]
    patient: float
    mapping: float
    user: float
    session: float
    seal: float
    seal_bytes: float
    verify: float
    backup: float


def assumed(value: float, meaning: str) -> Any:
    return field(default=value, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Assumptions:
    """None of these is measured. Prices are examples: put in your own."""

    requests: float = assumed(20, "requests of a user a day")
    peak: float = assumed(5, "requests in the busiest second, times the mean of the day")
    rush: float = assumed(0.25, "share of a day's logins that come within half an hour")
    years: float = assumed(3, "years of operation; patients stay for all of them")
    mappings: float = assumed(1, "assignments of a patient")
    sessions: float = assumed(30, "days for which an ended login session stays (RETENTION_LOGIN_SESSIONS_DAYS)")
    audit: float = assumed(12, "months for which history and access log stay in the database")
    archived: float = assumed(9, "further years for which their archives stay")
    archive_row: float = assumed(31, "bytes of a row in an archive (measured by scripts/retention_drill)")
    first_changes: float = assumed(0.1, "share of the changed pages that are the first change since a checkpoint")
    utilization: float = assumed(0.6, "share of a machine's CPU that is used at the peak")
    application_cores: float = assumed(8, "cores of a machine of the application")
    database_cores: float = assumed(32, "cores of a machine of PostgreSQL")
    copies: float = assumed(3, "machines of each database: primary, synchronous standby, asynchronous standby")
    largest: float = assumed(4000, "GB of the largest database that is restored in 4 hours, at 280 MB a second")
    free: float = assumed(0.3, "share of a disk that stays free: bloat, WAL, an index that is rebuilt")
    replay: float = assumed(100, "MB of WAL a second that a standby replays, which one process does")
    transactions: float = assumed(
        5e8, "transaction ids a day for which autovacuum can freeze: every table each second day, of 2³¹"
    )
    connections: float = assumed(500, "connections of a PostgreSQL without PgBouncer")
    workers: float = assumed(1, "worker processes of a core of the application; each has 4 connections")
    sealing: float = assumed(0.5, "share of a core that one process of seal_audit, with its PostgreSQL, may take")
    base_backups: float = assumed(2, "backups that are kept")
    backup: float = assumed(0.25, "size of a backup beside its database; made-up rows compress better, see above")
    wal_days: float = assumed(14, "days of archived WAL")
    services: float = assumed(6, "cores for three small machines: etcd, HAProxy, monitoring")
    core_price: float = assumed(20, "a month, for a core with 8 GB of memory")
    disk_price: float = assumed(0.1, "a month, for a GB of SSD")
    store_price: float = assumed(0.02, "a month, for a GB of object storage")


@dataclass(frozen=True)
class Plan:
    """For so many users. Cores are busy ones at the peak; sizes are GB; WAL is MB a second at the peak."""

    users: int
    peak: float
    application: float
    hashing: float
    postgresql: float
    wal: float
    patients: float
    records: float
    access_log: float
    history: float
    seals: float
    archives: float
    backups: float
    transactions: float
    sealing: float
    connections: float

    @property
    def database(self) -> float:
        return self.records + self.access_log + self.history + self.seals


def plan(inputs: Inputs, users: int, assumptions: Assumptions) -> Plan:
    def of_request(cost: Callable[[OperationCost], float]) -> float:
        return sum(share * cost(inputs.operations[name]) for name, share in MIX.items()) / 1000

    day = users * assumptions.requests
    peak = day / SECONDS_OF_DAY * assumptions.peak
    months = min(assumptions.audit, assumptions.years * 12) / 12 * DAYS_OF_YEAR
    wal = of_request(lambda one: one.wal + one.images * assumptions.first_changes)
    rows = of_request(lambda one: one.rows) * day
    logins = day * MIX["login"] / 1000
    patients = day * MIX["create"] / 1000 * DAYS_OF_YEAR * assumptions.years
    application = peak * of_request(lambda one: one.application) / 1e6
    records = users * inputs.user + patients * (inputs.patient + assumptions.mappings * inputs.mapping)
    records += logins * assumptions.sessions * inputs.session
    access_log, history = (of_request(cost) * day * months for cost in (lambda c: c.access_log, lambda c: c.history))
    seals = rows * DAYS_OF_YEAR * assumptions.years * inputs.seal_bytes
    database = records + access_log + history + seals
    hashing = logins * assumptions.rush / 1800 * inputs.operations["login"].application / 1e6
    cores = max(application, hashing) / assumptions.utilization
    return Plan(
        users=users,
        peak=peak,
        application=application,
        hashing=hashing,
        postgresql=peak * of_request(lambda one: one.postgresql) / 1e6,
        wal=peak * wal / 1e6,
        patients=patients,
        records=records / GB,
        access_log=access_log / GB,
        history=history / GB,
        seals=seals / GB,
        archives=rows * DAYS_OF_YEAR * assumptions.archived * assumptions.archive_row / GB,
        backups=(assumptions.base_backups * database * assumptions.backup + assumptions.wal_days * day * wal) / GB,
        transactions=of_request(lambda one: one.transactions) * day,
        sealing=rows * inputs.seal / 1e6 / SECONDS_OF_DAY,
        connections=ceil(cores) * assumptions.workers * 4,
    )


def limit_usage(one: Plan, assumptions: Assumptions) -> dict[str, float]:
    """How much of each limit is used, of a single primary or a single machine of the application: 1 is all of it."""
    application_cores = assumptions.utilization * assumptions.application_cores
    return {
        "CPU of one machine of the application": one.application / application_cores,
        "password hashing of a morning, on that machine": one.hashing / application_cores,
        "CPU of one PostgreSQL": one.postgresql / (assumptions.utilization * assumptions.database_cores),
        "size of one database": one.database / assumptions.largest,
        "WAL replay of one standby": one.wal / assumptions.replay,
        "transaction ids of one database": one.transactions / assumptions.transactions,
        "connections without PgBouncer": one.connections / assumptions.connections,
        "one process of seal_audit": one.sealing / assumptions.sealing,
    }


def database_limit_usage(one: Plan, assumptions: Assumptions) -> dict[str, float]:
    """The limits that only a further database raises. The others need a machine of the application, or PgBouncer."""
    of_database = ("CPU of one PostgreSQL", "size", "WAL", "transaction ids", "one process of seal_audit")
    return {name: used for name, used in limit_usage(one, assumptions).items() if name.startswith(of_database)}


def shard_count(one: Plan, assumptions: Assumptions) -> int:
    """The number of databases with which none exceeds a limit."""
    return ceil(max(database_limit_usage(one, assumptions).values()))


@dataclass(frozen=True)
class Purchase:
    """What a plan needs, and what it costs a month."""

    application: int
    databases: int
    cores_each: int
    disk: float
    store: float
    price: float


def purchase(one: Plan, assumptions: Assumptions) -> Purchase:
    """At least two machines of the application, of at least 2 cores, so that one may fail."""
    number = shard_count(one, assumptions)
    cores = max(one.application, one.hashing) / assumptions.utilization
    machines = max(2, ceil(cores / assumptions.application_cores) + 1)
    application_cores = min(assumptions.application_cores, max(2, ceil(cores)))
    cores_each = min(int(assumptions.database_cores), max(2, ceil(one.postgresql / assumptions.utilization / number)))
    disk = one.database / (1 - assumptions.free) * assumptions.copies
    store = one.archives + one.backups
    bought = machines * application_cores + number * assumptions.copies * cores_each + assumptions.services
    price = bought * assumptions.core_price + disk * assumptions.disk_price + store * assumptions.store_price
    return Purchase(machines, number * int(assumptions.copies), cores_each, disk, store, price)


def inputs_table(inputs: Inputs) -> str:
    """What is measured, in Markdown."""
    heads = ["of 1,000", "application µs", "PostgreSQL µs", "WAL B", "images B", "access log B", "history B", "xids"]
    rows = [report.table_head(["request"], heads)]
    for name, share in MIX.items():
        one = inputs.operations[name]
        figures = (one.application, one.postgresql, one.wal, one.images, one.access_log, one.history)
        rows.append(report.row(name, str(share), *(f"{each:,.0f}" for each in figures), f"{one.transactions:.1f}"))
    figures_of = {
        "bytes of a patient, with search terms and the first row of history": inputs.patient,
        "bytes of an assignment, with its history": inputs.mapping,
        "bytes of a user, with history": inputs.user,
        "bytes of a login session": inputs.session,
        "CPU µs to seal a row of history or access log": inputs.seal,
        "bytes of its seal": inputs.seal_bytes,
        "CPU µs to verify it": inputs.verify,
    }
    singles = [report.table_head(["one"], [""]), *(report.row(name, f"{one:,.0f}") for name, one in figures_of.items())]
    singles.append(report.row("size of a backup, of its database", f"{inputs.backup:.0%}"))
    return "\n".join([*rows, "", *singles])


def assumptions_table(assumptions: Assumptions) -> str:
    rows = [report.table_head(["assumption", "meaning"], ["value"])]
    rows += [
        report.row(f"`{one.name}`", one.metadata["meaning"], f"{getattr(assumptions, one.name):,g}")
        for one in fields(assumptions)
    ]
    return "\n".join(rows)


def plans_table(inputs: Inputs, assumptions: Assumptions) -> str:
    plans = [plan(inputs, users, assumptions) for users in USER_COUNTS]
    bought = [purchase(one, assumptions) for one in plans]
    lines: dict[str, list[str]] = {
        "requests a second, at the peak": [amount(one.peak) for one in plans],
        "busy cores of the application": [amount(one.application) for one in plans],
        "busy cores of the application in a rush of logins": [amount(one.hashing) for one in plans],
        "busy cores of PostgreSQL": [amount(one.postgresql) for one in plans],
        "WAL, MB/s at the peak": [amount(one.wal) for one in plans],
        "patients": [amount(one.patients) for one in plans],
        "records, GB": [amount(one.records) for one in plans],
        "access log, GB": [amount(one.access_log) for one in plans],
        "history, GB": [amount(one.history) for one in plans],
        "seals, GB": [amount(one.seals) for one in plans],
        "transaction ids a day": [amount(one.transactions) for one in plans],
        "databases (shards)": [amount(shard_count(one, assumptions)) for one in plans],
        "machines of PostgreSQL × cores": [f"{amount(one.databases)} × {one.cores_each}" for one in bought],
        "machines of the application": [amount(one.application) for one in bought],
        "SSD of all machines, GB": [amount(one.disk) for one in bought],
        "object storage for backups, WAL and archives, GB": [amount(one.store) for one in bought],
        "money a month": [amount(one.price) for one in bought],
        "money a month for 1,000 users": [
            amount(one.price / users * 1000) for one, users in zip(bought, USER_COUNTS, strict=True)
        ],
    }
    head = report.table_head([""], [f"{users:,} users" for users in USER_COUNTS])
    return "\n".join([head, *(report.row(name, *cells) for name, cells in lines.items())])


def limits_table(inputs: Inputs, assumptions: Assumptions) -> str:
    """How much of each limit one primary, or one machine of the application, uses; bold is what fails first of a
    database."""
    plans = [plan(inputs, users, assumptions) for users in USER_COUNTS]
    rows = [report.table_head(["limit"], [f"{users:,} users" for users in USER_COUNTS])]
    for name in limit_usage(plans[0], assumptions):
        cells = []
        for one in plans:
            used, of_database = limit_usage(one, assumptions)[name], database_limit_usage(one, assumptions)
            text = f"{amount(used * 100)} %"
            cells.append(f"**{text}**" if used == max(of_database.values()) and name in of_database else text)
        rows.append(report.row(name, *cells))
    return "\n".join(rows)


def sensitivity_table(inputs: Inputs, assumptions: Assumptions) -> str:
    """Money a month when one assumption is twice or half as large."""
    names = ("requests", "peak", "audit", "first_changes", "utilization", "largest", "transactions")
    rows = [
        report.table_head(["assumption"], [f"{users:,} users: {how}" for users in USER_COUNTS for how in ("½", "2 ×")])
    ]
    for name in names:
        cells = []
        for users in USER_COUNTS:
            for factor in (0.5, 2):
                value = getattr(assumptions, name) * factor
                changed = replace(assumptions, **{name: min(1, value) if name == "utilization" else value})
                cells.append(amount(purchase(plan(inputs, users, changed), changed).price))
        rows.append(report.row(f"`{name}`", *cells))
    return "\n".join(rows)


def amount(value: float) -> str:
    """Three significant digits."""
    if value >= 1e9:
        return f"{value / 1e9:,.3g} billion"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.2g}"


def read_inputs() -> Inputs:
    saved = json.loads(INPUTS_FILE.read_text(encoding="utf-8"))
    operations = {name: OperationCost(**one) for name, one in saved.pop("operations").items()}
    return Inputs(operations=operations, **saved)


def page_tables(inputs: Inputs, assumptions: Assumptions) -> dict[str, str]:
    """By heading of docs/capacity.md, whose tables these are."""
    return {
        "Measured": inputs_table(inputs),
        "Assumptions": assumptions_table(assumptions),
        "Machines, disks and money": plans_table(inputs, assumptions),
        "What fails first": limits_table(inputs, assumptions),
        "What changes the result": sensitivity_table(inputs, assumptions),
    }


def run(options: argparse.Namespace, folder: Path) -> str:
    """The tables, of what this machine measures."""
    with start_testbed(folder, ["ours"], options.patients) as testbed:
        inputs = measure_inputs(testbed, options, folder)
    if options.save:
        INPUTS_FILE.write_text(json.dumps(asdict(inputs), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shown = page_tables(inputs, Assumptions())
    return "\n".join([f"{inputs.machine}.", *(f"\n## {head}\n\n{table}" for head, table in shown.items())])


TABLE_SIZES = "SELECT sum(pg_total_relation_size(name::text)) FROM unnest(%s) AS name"


def measure_inputs(testbed: Testbed, options: argparse.Namespace, folder: Path) -> Inputs:
    database = databases.copy_name("product", testbed.others)
    with databases.open_cursor(database) as cursor:
        cursor.execute("CREATE EXTENSION pg_walinspect")
        record_sizes = sizes_of_records(cursor)
    costs = {}
    for name in MIX:
        show_status(name)
        costs[name] = measure_operation(testbed, database, name, options.rounds * options.seconds)
        print_line(f"{name}: {costs[name]}")
    with databases.open_cursor(database) as cursor:
        cursor.execute("DROP EXTENSION pg_walinspect")
        cursor.execute(
            "SELECT pg_total_relation_size('accounts_loginsession')::float8 / count(*) FROM accounts_loginsession"
        )
        [record_sizes["session"]] = cursor.fetchone()
    audited = measure_audit(testbed, database)
    return Inputs(
        machine=report.describe_machine(),
        operations=costs,
        **record_sizes,
        **audited,
        backup=measure_backup(database, folder),
    )


def sizes_of_records(cursor: Any) -> dict[str, float]:
    """Bytes of a patient, an assignment and a user, from those that fill the database."""
    found = {}
    for name, table, extra in (
        ("patient", "patients_patient", ("patients_patientevent", "patients_patientterm")),
        ("mapping", "mappings_mapping", ("mappings_mappingevent",)),
        ("user", "accounts_user", ("audit_userevent",)),
    ):
        cursor.execute(TABLE_SIZES, [[table, *extra]])
        [size] = cursor.fetchone()
        cursor.execute(f"SELECT count(*) FROM {table}")
        [count] = cursor.fetchone()
        found[name] = float(size) / count
    return found


@dataclass(frozen=True)
class Counters:
    """Of the database at one moment."""

    lsn: str
    transaction: int
    access_log: int
    history: int
    rows: int
    cpu: tuple[float, float]


def read_counters(testbed: Testbed, cursor: Any) -> Counters:
    cursor.execute("SELECT pg_total_relation_size('audit_accesslog'), pg_total_relation_size('patients_patientevent')")
    access_log, history = cursor.fetchone()
    cursor.execute("SELECT (SELECT count(*) FROM audit_accesslog) + (SELECT count(*) FROM patients_patientevent)")
    [rows] = cursor.fetchone()
    cursor.execute("SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    lsn, transaction = cursor.fetchone()
    processes = (testbed.servers[0].process, testbed.postgresql)
    cpu = process_tree.cpu_seconds(processes[0]), process_tree.cpu_seconds(processes[1])
    return Counters(lsn, transaction, access_log, history, rows, cpu)


def wal_between(cursor: Any, begin: str, end: str) -> tuple[float, float]:
    """Bytes of records without images, and bytes of full-page images."""
    if begin == end:
        return 0, 0
    cursor.execute("SELECT pg_logical_emit_message(true, '', '')")  # a commit that waits, since reads do not
    cursor.execute("SELECT sum(record_size), sum(fpi_size) FROM pg_get_wal_stats(%s, %s)", [begin, end])
    records, images = cursor.fetchone()
    return float(records or 0), float(images or 0)


def measure_operation(testbed: Testbed, database: str, name: str, seconds: int) -> OperationCost:
    server, caller = testbed.servers[0], testbed.caller
    contender = Contender(name, server, plain_requests(caller, server.server.paging)[name], caller)
    warm_up(contender)
    with databases.open_cursor(database) as cursor:
        cursor.execute("SELECT gin_clean_pending_list('access_to_patient')")
        contender = with_current_tags(contender)
        before = read_counters(testbed, cursor)
        count = send_load(contender, seconds)["requests"]
        # Before the sizes are counted, which costs PostgreSQL CPU, too.
        cpu = [
            process_tree.cpu_seconds(process) - begun
            for process, begun in zip((server.process, testbed.postgresql), before.cpu, strict=True)
        ]
        cursor.execute("SELECT gin_clean_pending_list('access_to_patient')")
        after = read_counters(testbed, cursor)
        wal, _ = wal_between(cursor, before.lsn, after.lsn)
        images = []
        for number in AFTER_CHECKPOINT:
            cursor.execute("CHECKPOINT")
            cursor.execute("SELECT pg_current_wal_insert_lsn()")
            [begin] = cursor.fetchone()
            number = number % len(caller.samples[contender.request.sample])
            equal_answers.fetch_json(name, server, contender.request.filled(caller, number), caller)
            cursor.execute("SELECT pg_current_wal_insert_lsn()")
            [end] = cursor.fetchone()
            images.append(wal_between(cursor, begin, end)[1])
    return OperationCost(
        application=cpu[0] / count * 1e6,
        postgresql=cpu[1] / count * 1e6,
        wal=wal / count,
        images=mean(images),
        access_log=(after.access_log - before.access_log) / count,
        history=(after.history - before.history) / count,
        rows=(after.rows - before.rows) / count,
        transactions=(after.transaction - before.transaction) / count,
    )


def measure_audit(testbed: Testbed, database: str) -> dict[str, float]:
    """CPU µs of a row that is sealed and verified, without the start of Python, and bytes of its seal."""
    url, key = databases.url_of(database), {"AUDIT_SEAL_KEY": "benchmarks-benchmarks-benchmarks"}

    def cpu_of(*command: str) -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        before = children.ru_utime + children.ru_stime + process_tree.cpu_seconds(testbed.postgresql)
        run_command(url, *command, **key)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime + process_tree.cpu_seconds(testbed.postgresql) - before

    show_status("seal_audit and verify_audit")
    sealing, start = cpu_of("seal_audit"), cpu_of("seal_audit")
    verifying, start_of_verifying = cpu_of("verify_audit", "--full"), cpu_of("verify_audit")
    with databases.open_cursor(database) as cursor:
        cursor.execute("SELECT sum(cardinality(row_ids)), pg_total_relation_size('audit_seal') FROM audit_seal")
        rows, size = cursor.fetchone()
    return {
        "seal": (sealing - start) / rows * 1e6,
        "seal_bytes": size / rows,
        "verify": (verifying - start_of_verifying) / rows * 1e6,
    }


def measure_backup(database: str, folder: Path) -> float:
    file = folder / "capacity.backup"
    file.unlink(missing_ok=True)
    show_status("backup")
    run_command(databases.url_of(database), "backup", str(file))
    with databases.open_cursor(database) as cursor:
        cursor.execute("SELECT pg_database_size(%s)", [database])
        [size] = cursor.fetchone()
    share: float = file.stat().st_size / size
    file.unlink()
    return share
