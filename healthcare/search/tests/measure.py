"""What finding costs among 10,000 patients of one owner and among 1,000,000 of another, side by side.

`DATABASE_URL=postgres://… python -m healthcare.search.tests.measure` takes about ten minutes; `--patients 100000` less.
It makes a database of its own on that server, fills it by SQL, serves it, asks for both owners in turn, and drops it.
Of each request it prints the milliseconds by the clock (median) and of processor time (the application's and
PostgreSQL's), and how often the larger costs the smaller.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import django
import psutil
import psycopg2

from healthcare.tests.live import LiveServer, own_database, serving, url_of
from healthcare.tests.pytest_environment import TEST_ENVIRONMENT  # which sets it

SMALL, BATCH = 10_000, 20
# Some 1,500 given and 7,000 family names, made of syllables; the first of them are real. Names are as frequent as the
# logarithm of their place has it (Zipf's law): one in ten is called John or Mary, most names are borne by a few.
NAMES = """
CREATE TEMP TABLE syllable AS SELECT row_number() OVER (ORDER BY md5(a || b)) AS n, a || b AS s
FROM unnest(string_to_array('b br c d f g h j k l m n p r s sh t v w z', ' ')) a,
    unnest(string_to_array('a an ar e el en i in o on or u', ' ')) b;
CREATE TEMP TABLE given AS SELECT row_number() OVER () AS n, name FROM (
    SELECT unnest(string_to_array('john mary james maria david anna peter jon olga ravi', ' ')) AS name UNION ALL
    (SELECT a.s || b.s FROM syllable a, syllable b ORDER BY md5(a.s || b.s) LIMIT 1490)) names;
CREATE TEMP TABLE family AS SELECT row_number() OVER () AS n, name FROM (
    SELECT unnest(string_to_array('smith jones brown garcia patel ivanov kim smyth okafor', ' ')) AS name UNION ALL (
    SELECT a.s || b.s || c FROM syllable a, syllable b, unnest(string_to_array('ski son ez ov man ton ley ford', ' ')) c
    ORDER BY md5(a.s || b.s || c) LIMIT 6990)) names;
"""
PATIENTS = """
INSERT INTO patients_patient (created_by_id, name, gender, birth_year, identifier, phone, email, identifiers,
    alternate_phone, address, language, contacts, medical_history, version, created_at, updated_at)
SELECT %(owner)s, initcap(given.name || ' ' || family.name), 'U', 1950 + i %% 60, 'MRN-' || i,
    '+91 80 ' || 10000000 + i, 'p' || i || '@example.org', '[]', '', '', '', '[]', '', 1, now(), now()
FROM (SELECT i, floor(exp(random() * ln(1500)))::int AS g, floor(exp(random() * ln(7000)))::int AS f
    FROM generate_series(1, %(patients)s) i) one
JOIN given ON given.n = g JOIN family ON family.n = f ORDER BY i
"""
ASKED = {
    "search, exact": "search=john smith",
    "search, misspelt": "search=jon smyth",
    "search, one word": "search=patel",
    "search, a beginning": "search=smi",
    "search, a phone": "search=10000777",
    "search, an identifier": "search=MRN 777",
    "search, unknown": "search=zzyzx quux",
    "search, half unknown": "search=john zzyzx",
    "page one": "",
    "the last page, by cursor": "cursor={last}",
    "page one by name": "ordering=name",
}


def fill(database: str, owners: dict[int, int]) -> float:
    """Patients for each owner's id, so many; the seconds that their terms took."""
    from healthcare.search.index import INDEXES  # noqa: PLC0415  (needs Django)
    from healthcare.search.triggers import synchronize  # noqa: PLC0415

    (index,) = (index for index in INDEXES if index.table == "patients_patient")
    opened = psycopg2.connect(url_of(database))
    opened.autocommit = True
    cursor = opened.cursor()
    cursor.execute(NAMES)
    cursor.execute("ALTER TABLE patients_patient DISABLE TRIGGER USER")
    for owner, patients in owners.items():
        cursor.execute(PATIENTS, {"owner": owner, "patients": patients})
    cursor.execute("ALTER TABLE patients_patient ENABLE TRIGGER USER")
    began = time.perf_counter()
    cursor.execute(synchronize(index, "true", "true"))
    took = time.perf_counter() - began
    cursor.execute("VACUUM ANALYZE")
    opened.close()
    return took


def last_cursor(database: str, owner: int, rows: int) -> str:
    from healthcare.api.cursors import Cursor  # noqa: PLC0415

    with psycopg2.connect(url_of(database)) as opened, opened.cursor() as cursor:
        row = "SELECT id FROM patients_patient WHERE created_by_id = %s ORDER BY id OFFSET %s LIMIT 1"
        cursor.execute(row, [owner, rows])
        (key,) = cursor.fetchone() or (0,)
    opened.close()
    return Cursor((key,), back=False).text()


def processes(server: LiveServer, database: str) -> Iterator[psutil.Process]:
    """The server's, and those of PostgreSQL that work for it, on this machine."""
    with psycopg2.connect(url_of(database)) as opened, opened.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        backends = {pid for (pid,) in cursor.fetchall()}
    opened.close()
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.pid in backends or f"--port {server.port} " in command:
            yield from (process, *(process.children() if process.pid not in backends else ()))


def processor_time(server: LiveServer, database: str) -> float:
    times = {}
    for process in list(processes(server, database)):
        with suppress(psutil.NoSuchProcess):
            times[process.pid] = sum(process.cpu_times()[:2])
    return sum(times.values())


def measure(server: LiveServer, database: str, token: str, path: str, times: int) -> tuple[list[float], float, int]:
    """Milliseconds of each request, processor milliseconds a request, and how many rows it answers."""
    before, took, rows = processor_time(server, database), [], 0
    for _ in range(times):
        began = time.perf_counter()
        answer = server.call("GET", path, token=token)
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, answer.body
        rows = len(answer.json)
    return took, (processor_time(server, database) - before) * 1000 / times, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    assert TEST_ENVIRONMENT
    django.setup()
    with own_database() as database, serving(url_of(database), output=Path(os.devnull)) as server:
        people = [server.register() for _ in range(2)]
        sizes = dict(zip([user["id"] for user, _ in people], [SMALL, options.patients], strict=True))
        print(f"The terms of {sum(sizes.values()):,} patients took {fill(database, sizes):.0f} s.", flush=True)
        asked = {}
        for name, query in ASKED.items():
            for (user, tokens), size in zip(people, sizes.values(), strict=True):
                last = last_cursor(database, user["id"], 20) if "{last}" in query else ""
                path = f"/api/patients/?limit=20&{quote(query.format(last=last), safe='=')}".rstrip("&")
                asked[name, size] = (tokens["access"], path)
        seen: dict[tuple[str, int], list[tuple[list[float], float, int]]] = {key: [] for key in asked}
        for number in range(options.rounds + 1):
            for key, (token, path) in asked.items():
                measured = measure(server, database, token, path, BATCH)
                if number:  # the first round warms up
                    seen[key].append(measured)
        report(seen, SMALL, options.patients)


def report(seen: dict[tuple[str, int], list[tuple[list[float], float, int]]], small: int, large: int) -> None:
    titles = [f"{size:,}" for size in (small, large)]
    print(f"{'':26}{'rows':>8}" + "".join(f"{f'ms {title}':>14}{f'CPU {title}':>14}" for title in titles) + "   ratio")
    for name in ASKED:
        line, spent = "", []
        for size in (small, large):
            clock = statistics.median(ms for took, _, _ in seen[name, size] for ms in took)
            spent.append(statistics.median(cpu for _, cpu, _ in seen[name, size]))
            line += f"{clock:14.1f}{spent[-1]:14.1f}"
        rows = "/".join(str(seen[name, size][0][2]) for size in (small, large))
        print(f"{name:26}{rows:>8}{line}{spent[1] / spent[0]:8.2f}", flush=True)


if __name__ == "__main__":
    main()
