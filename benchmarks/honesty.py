"""Every server must keep out whom it has to, and ours and the floor must leave every trace, before they are timed."""

import dataclasses
from typing import Any

from benchmarks import answers, databases
from benchmarks.answers import UnequalError
from benchmarks.data import FOREIGN, OWN, Caller
from benchmarks.operations import requests
from benchmarks.targets import Running

TRACES = {
    "the access log": "SELECT count(*) FROM audit_accesslog",
    "the history": "SELECT count(*) FROM patients_patientevent",
}
# By operation how many rows it must leave there.
LEFT = {"get one": (1, 0), "list 20": (1, 0), "create": (0, 1), "patch": (1, 1)}


def check(servers: list[Running], caller: Caller, others: int) -> None:
    """Raises UnequalError."""
    for server in servers:
        check_doors(server, caller)
        if server.target.database == "product":
            check_traces(server, caller, others)


def check_doors(server: Running, caller: Caller) -> None:
    own = requests(caller, server.target.paging)["get one"].filled(caller, 0)
    foreign = dataclasses.replace(own, path=f"/api/patients/{FOREIGN}/")
    tampered = dataclasses.replace(caller, token=caller.token[:-4] + "AAAA")
    ended = dataclasses.replace(caller, token=caller.ended)
    attempts = {
        "nobody": (dataclasses.replace(own, token=False), caller, {401, 403}),
        "a tampered token": (own, tampered, {401, 403}),
        "another's patient": (foreign, caller, {404}),
    }
    if server.target.database == "product":
        attempts["an ended session"] = (own, ended, {401})
    for what, (request, who, statuses) in attempts.items():
        status, _ = answers.send(server, request, who)
        if status not in statuses:
            raise UnequalError(f"{server.name} answers {status} to {what}.")


def check_traces(server: Running, caller: Caller, others: int) -> None:
    with databases.opened(databases.copied("product", others)) as cursor:
        for operation, expected in LEFT.items():
            before = counts(cursor)
            answers.answer(
                operation, server, requests(caller, server.target.paging)[operation].filled(caller, 3), caller
            )
            left = tuple(now - then for now, then in zip(counts(cursor), before, strict=True))
            if left != expected:
                raise UnequalError(f"{server.name} leaves {left} rows of {operation} in {' and '.join(TRACES)}.")
        # Else the lists would differ from those of the other copies.
        cursor.execute("DELETE FROM patients_patient WHERE id > %s", [OWN + others])


def counts(cursor: Any) -> list[int]:
    found = []
    for statement in TRACES.values():
        cursor.execute(statement)
        found.append(cursor.fetchone()[0])
    return found
