"""What row-level security costs a request: `DATABASE_URL=… python -m benchmarks.row_level_security`,
on a scratch database.

Runs requests through the whole application in this process, once as the restricted role behind row-level security and
once, in turn, as the database's owner, whom no policy holds; prints the CPU time of both as medians with quartiles.
The database is filled with 100,000 patients of ten users, and not emptied.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import django
import psutil

os.environ["DJANGO_SETTINGS_MODULE"] = "healthcare.settings"
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402  (after the setup)
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from accounts import authentication  # noqa: E402
from healthcare.rls import ROLE, context  # noqa: E402
from healthcare.tests.served import ServedHandler  # noqa: E402
from patients.models import Patient  # noqa: E402

OWNERS, OWNED, SLICES, REQUESTS = 10, 10_000, 15, 100
# How Django enters the database, and how what stands in front of it does.
WALLED = (authentication.AUTHENTICATE, context.TAKE_ROLE)
OPEN = (WALLED[0].replace(f"set_config('role', '{ROLE}', true)", "1"), WALLED[1].replace(ROLE, "none"))
if any(one == other for one, other in zip(OPEN, WALLED, strict=True)):
    raise SystemExit("A statement that enters the database has another form by now; put OPEN right.")
PASSWORD = "StrongPass123"  # noqa: S105  (of a scratch database)


def fill() -> APIClient:
    """A client that is logged in as the first of the users."""
    call_command("migrate", verbosity=0)
    users = [
        get_user_model().objects.create_user(
            f"wall{time.time_ns()}-{number}", f"{time.time_ns()}@example.org", PASSWORD
        )
        for number in range(OWNERS)
    ]
    for number in range(OWNED // 1000):
        for user in users:
            Patient.objects.bulk_create(Patient(name=f"Patient {number}", created_by=user) for _ in range(1000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    client = APIClient(headers={"host": "localhost"})
    client.handler = ServedHandler()
    answer = client.post("/api/auth/login/", {"username": users[0].username, "password": PASSWORD}, format="json")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    return client


@contextmanager
def measured(into: list[float]) -> Iterator[None]:
    """CPU microseconds a request: of this process, and of its PostgreSQL session where that runs on this machine."""
    server = psutil.Process(connection.connection.info.backend_pid)
    before, began = time.process_time(), sum(server.cpu_times()[:2])
    yield
    used = time.process_time() - before + sum(server.cpu_times()[:2]) - began
    into.append(used / REQUESTS * 1_000_000)


def main() -> None:
    client = fill()
    first = client.get("/api/patients/?limit=1").json()[0]["id"]
    calls: dict[str, Callable[[int], object]] = {
        "get one": lambda turn: client.get(f"/api/patients/{first - turn}/"),
        "list 20": lambda turn: client.get("/api/patients/?limit=20"),
        "create": lambda turn: client.post("/api/patients/", {"name": "New"}, format="json"),
        "patch": lambda turn: client.patch(f"/api/patients/{first}/", {"address": f"{time.time_ns()}"}, format="json"),
    }
    print(f"{'':8}  {'wall, µs':>14}  {'none, µs':>14}  ratio (quartiles) of {SLICES} slices of {REQUESTS} requests")
    for name, call in calls.items():
        figures: dict[tuple[str, ...], list[float]] = {WALLED: [], OPEN: []}
        for _ in range(SLICES):
            for way, into in figures.items():
                authentication.AUTHENTICATE, context.TAKE_ROLE = way
                call(0)
                with measured(into):
                    for turn in range(REQUESTS):
                        call(turn)
        ratios = statistics.quantiles([a / b for a, b in zip(*figures.values(), strict=True)], n=4)
        walled, none = (statistics.median(figures[way]) for way in (WALLED, OPEN))
        print(f"{name:8}  {walled:14.0f}  {none:14.0f}  {ratios[1]:.2f} ({ratios[0]:.2f}–{ratios[2]:.2f})", flush=True)


if __name__ == "__main__":
    main()
