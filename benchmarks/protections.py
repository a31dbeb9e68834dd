"""The guarantees of every server, checked before it is timed: whom it refuses, and what it records."""

from dataclasses import replace
from typing import Any

from benchmarks import databases
from benchmarks.data import FOREIGN, OWN, Caller
from benchmarks.equal_answers import UnequalError, fetch_json, send_request
from benchmarks.operations import plain_requests
from benchmarks.references import statements
from benchmarks.servers import RunningServer

COUNTS = {
    "the access log": "SELECT count(*) FROM audit_accesslog",
    "the history": "SELECT count(*) FROM patients_patientevent",
}
# By operation how many rows it must add to each of them.
RECORDED = {"get one": (1, 0), "list 20": (1, 0), "create": (0, 1), "patch": (1, 1)}
# Records as which role the access log and patients are written.
START_RECORDING_ROLES = """
CREATE TABLE benchmark_role (name text);
GRANT INSERT ON benchmark_role TO PUBLIC;
CREATE FUNCTION benchmark_record_role() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.benchmark_role VALUES (current_user); RETURN NULL; END $$;
CREATE TRIGGER benchmark_role AFTER INSERT ON audit_accesslog EXECUTE FUNCTION benchmark_record_role();
CREATE TRIGGER benchmark_role AFTER INSERT OR UPDATE ON patients_patient EXECUTE FUNCTION benchmark_record_role();
"""
STOP_RECORDING_ROLES = "DROP FUNCTION benchmark_record_role CASCADE; DROP TABLE benchmark_role"


def check_protections(servers: list[RunningServer], caller: Caller, others: int) -> None:
    """Raises UnequalError for a server that answers whom it must refuse, or does not record what it must."""
    # The first member of the sample is on the list's last page, whose answers are compared after these changes.
    for number, server in enumerate(servers, start=1):
        check_refusals(server, caller)
        if server.server.database == "product":
            check_records(server, caller, others, number)


def check_refusals(server: RunningServer, caller: Caller) -> None:
    own = plain_requests(caller, server.server.paging)["get one"].filled(caller, 0)
    foreign = replace(own, path=f"/api/patients/{FOREIGN}/")
    attempts = {
        "a request without a token": (replace(own, token=False), caller, {401, 403}),
        "a tampered token": (own, replace(caller, token=caller.token[:-4] + "AAAA"), {401, 403}),
        "a request for another user's patient": (foreign, caller, {404}),
    }
    if server.server.database == "product":
        attempts["a revoked session"] = (own, replace(caller, token=caller.revoked_token), {401})
    for attempt, (request, sender, statuses) in attempts.items():
        status, _, _ = send_request(server, request, sender)
        if status not in statuses:
            raise UnequalError(f"{server.name} answers {attempt} with {status}.")


def check_records(server: RunningServer, caller: Caller, others: int, number: int) -> None:
    with databases.open_cursor(databases.copy_name("product", others)) as cursor:
        cursor.execute(START_RECORDING_ROLES)
        for operation, expected in RECORDED.items():
            before = count_records(cursor)
            request = plain_requests(caller, server.server.paging)[operation].filled(
                caller, number
            )  # another value for each server
            fetch_json(operation, server, request, caller)
            added = tuple(now - then for now, then in zip(count_records(cursor), before, strict=True))
            if added != expected:
                raise UnequalError(f"{server.name} adds {added} rows to {', '.join(COUNTS)} in {operation}.")
        cursor.execute("SELECT DISTINCT name FROM benchmark_role")
        roles = {name for (name,) in cursor.fetchall()}
        if roles != {statements.ROLE}:
            raise UnequalError(f"{server.name} works as {', '.join(roles)}, not as {statements.ROLE}.")
        cursor.execute(STOP_RECORDING_ROLES)
        # Without this the lists would differ from those of the other copies.
        cursor.execute("DELETE FROM patients_patient WHERE id > %s", [OWN + others])


def count_records(cursor: Any) -> list[int]:
    counts = []
    for statement in COUNTS.values():
        cursor.execute(statement)
        counts.append(cursor.fetchone()[0])
    return counts
