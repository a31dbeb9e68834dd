"""The measured operations: plain calls, which every server answers, and everyday calls, which only ours answers."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.data import DEPTH, FOREIGN, PAGE, PASSWORD, Caller

CREATED = '{"name": "John Smith", "age": 34, "gender": "M", "address": "# Residency Road, Bengaluru"}'
CREATED_WITH_ALL_FIELDS = (  # with an escaped @, because a bare one stands for a member of the sample
    '{"name": "John Smith", "birth_date": "1991-05-17", "gender": "male", "deceased": false, "identifier": "N-#", '
    '"phone": "+91 80 #", "email": "john.smith\\u0040example.org", "address": "# Residency Road, Bengaluru"}'
)
CHANGED = '{"address": "# Church Street, Bengaluru"}'
CHANGED_BIRTH_DATE = '{"birth_date": "$"}'
SEARCHED = f'{{"search": "@", "limit": {PAGE}}}'
LOGIN_BODY = f'{{"username": "@", "password": "{PASSWORD}"}}'
TRACE = "00-0000000000000000000#-00f067aa0ba902b7-01"  # W3C trace context; # has 13 digits
UNKNOWN_TAG = '"00000000000000000000000000000000"'

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BenchmarkRequest:
    """In `path`, `body` and the values of `headers`, @ is one of the caller's `sample`, # a number that is never sent
    twice, $ a date that is another one each time the same @ is sent, and ~ the entity tag of the record @ where the
    sample is "tagged"."""

    method: str
    path: str
    body: str = ""
    token: bool = True
    sample: str = "patients"
    headers: Headers = ()
    status: int = 200
    connections: int = 16  # that send it at once

    def filled(self, caller: Caller, number: int) -> "BenchmarkRequest":
        """The request with the values of the sample's member `number` in place of @, #, $ and ~."""
        value, _, tag = caller.samples[self.sample][number].partition("=")
        unique = str(1_000_000_000_000 + number)
        date = f"{1930 + number % 71}-05-17"

        def fill(text: str) -> str:
            return text.replace("@", value).replace("#", unique).replace("$", date).replace("~", tag)

        headers = tuple((name, fill(content)) for name, content in self.headers)
        return replace(self, path=fill(self.path), body=fill(self.body), headers=headers)


def plain_requests(caller: Caller, paging: str) -> dict[str, BenchmarkRequest]:
    """The plain calls by name, for a server that pages by "encrypted cursor", "cursor", "page" or "offset"."""
    from healthcare.api.cursors import Cursor  # noqa: PLC0415  (needs the settings)

    cursor = base64.urlsafe_b64encode(f"[false,{caller.after}]".encode()).decode().rstrip("=")
    encrypted = Cursor((caller.after,), back=False).text()
    size, deep = {
        "encrypted cursor": (f"limit={PAGE}", f"limit={PAGE}&cursor={encrypted}"),
        "cursor": (f"limit={PAGE}", f"limit={PAGE}&cursor={cursor}"),
        "page": ("", f"page={DEPTH // PAGE + 1}"),
        "offset": (f"limit={PAGE}", f"limit={PAGE}&offset={DEPTH}"),
    }[paging]
    return {
        "get one": BenchmarkRequest("GET", "/api/patients/@/"),
        "list 20": BenchmarkRequest("GET", f"/api/patients/?{size}"),
        "list at depth": BenchmarkRequest("GET", f"/api/patients/?{deep}"),
        "create": BenchmarkRequest("POST", "/api/patients/", CREATED, status=201),
        "patch": BenchmarkRequest("PATCH", "/api/patients/@/", CHANGED),
        "public doctors": BenchmarkRequest("GET", f"/api/doctors/?{size}", token=False),
        "a patient's doctors": BenchmarkRequest("GET", "/api/patients/@/doctors/", sample="treated"),
        # The server hashes two passwords at once in a worker, and answers 503 to what waits for a second.
        "login": BenchmarkRequest("POST", "/api/auth/login/", LOGIN_BODY, token=False, sample="logins", connections=4),
        "search hit": BenchmarkRequest("GET", f"/api/patients/?search=@&{size}", sample="quoted names"),
        "search miss": BenchmarkRequest("GET", f"/api/patients/?search=@&{size}", sample="unknown_names"),
    }


PLAIN_NAMES = (
    *("get one", "list 20", "list at depth", "create", "patch", "public doctors", "a patient's doctors"),
    *("login", "search hit", "search miss"),
)


@dataclass(frozen=True)
class EverydayCall:
    """A call that costs at most `goal` times its plain call; `is_expected` judges the JSON of its answer."""

    plain: str
    goal: float
    request: BenchmarkRequest
    is_expected: Callable[[Any], bool]


def get_one(is_expected: Callable[[Any], bool], goal: float = 1.3, query: str = "", **request: Any) -> EverydayCall:
    return EverydayCall("get one", goal, BenchmarkRequest("GET", f"/api/patients/@/{query}", **request), is_expected)


def list_20(query: str, goal: float, is_expected: Callable[[Any], bool]) -> EverydayCall:
    return EverydayCall("list 20", goal, BenchmarkRequest("GET", f"/api/patients/?limit={PAGE}&{query}"), is_expected)


def create(is_expected: Callable[[Any], bool], goal: float, body: str = CREATED, **request: Any) -> EverydayCall:
    return EverydayCall(
        "create", goal, BenchmarkRequest("POST", "/api/patients/", body, status=201, **request), is_expected
    )


def patch(is_expected: Callable[[Any], bool], body: str = CHANGED, **request: Any) -> EverydayCall:
    return EverydayCall("patch", 1.4, BenchmarkRequest("PATCH", "/api/patients/@/", body, **request), is_expected)


def doctors(query: str, goal: float, is_expected: Callable[[Any], bool], token: bool = False) -> EverydayCall:
    request = BenchmarkRequest("GET", f"/api/doctors/?limit={PAGE}{query}", token=token)
    return EverydayCall("public doctors", goal, request, is_expected)


def is_patient(body: Any) -> bool:
    return isinstance(body, dict) and {"id", "name", "age", "version"} <= body.keys()


def is_page(body: Any) -> bool:
    return len(body) == PAGE


def is_problem(status: int) -> Callable[[Any], bool]:
    return lambda body: body["status"] == status and "request_id" in body


def of_each(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it holds for each row of a full page."""
    return lambda rows: is_page(rows) and all(holds(row) for row in rows)


EVERYDAY_CALLS = {
    "get one, If-None-Match (304)": get_one(
        lambda body: body is None, sample="tagged", headers=(("If-None-Match", "~"),), status=304
    ),
    "get one, If-None-Match (200)": get_one(is_patient, headers=(("If-None-Match", UNKNOWN_TAG),)),
    "get one, ?fields=": get_one(lambda body: list(body) == ["id", "name"], query="?fields=id,name"),
    "get one, traceparent": get_one(is_patient, 1.05, headers=(("traceparent", TRACE),)),
    "get one, X-Device-Id": get_one(is_patient, 1.05, headers=(("X-Device-Id", "device-#"),)),
    "get one, Cookie": get_one(is_patient, 1.05, headers=(("Cookie", "visit=#"),)),
    "get one, 404": EverydayCall(
        "get one", 2, BenchmarkRequest("GET", f"/api/patients/{FOREIGN}/", status=404), is_problem(404)
    ),
    "get one, 401": get_one(is_problem(401), 2, token=False, status=401),
    "list 20, ?fields=": list_20("fields=id,name", 1.5, of_each(lambda row: list(row) == ["id", "name"])),
    "list 20, ?ordering=": list_20(
        "ordering=name", 1.5, lambda rows: is_page(rows) and rows == sorted(rows, key=lambda row: row["name"][0])
    ),
    "list 20, ?gender=": list_20("gender=F", 2, of_each(lambda row: row["gender"] == "F")),
    "list 20, ?birth_date_after=": list_20(
        "birth_date_after=1990-01-01", 2, of_each(lambda row: row["birth_year"] >= 1990)
    ),
    "list 20, ?include=doctors": list_20("include=doctors", 2.5, of_each(lambda row: "doctors" in row)),
    "history": EverydayCall(
        "list 20", 2, BenchmarkRequest("GET", f"/api/patients/@/history/?limit={PAGE}"), lambda rows: len(rows) > 0
    ),
    "access log": EverydayCall(
        "list 20", 2, BenchmarkRequest("GET", f"/api/patients/@/access-log/?limit={PAGE}"), lambda rows: len(rows) > 0
    ),
    "FHIR read": EverydayCall(
        "get one", 1.5, BenchmarkRequest("GET", "/fhir/Patient/@"), lambda body: body["resourceType"] == "Patient"
    ),
    "FHIR search": EverydayCall(
        "list 20",
        2.5,
        BenchmarkRequest("GET", f"/fhir/Patient?_count={PAGE}"),
        lambda body: is_page(body["entry"]) and all("resource" in entry for entry in body["entry"]),
    ),
    "create, Idempotency-Key": create(is_patient, 1.6, headers=(("Idempotency-Key", "benchmark-#"),)),
    "create, all fields": create(
        lambda body: body["birth_date"] == "1991-05-17" and body["email"] > "", 1.3, CREATED_WITH_ALL_FIELDS
    ),
    "patch, If-Match": patch(is_patient, sample="tagged", headers=(("If-Match", "~"),)),
    "patch, X-Change-Reason": patch(is_patient, headers=(("X-Change-Reason", "Moved to another street"),)),
    "patch, birth_date": patch(lambda body: body["birth_date"].endswith("-05-17"), CHANGED_BIRTH_DATE),
    "search hit, by POST": EverydayCall(
        "search hit",
        1.2,
        BenchmarkRequest("POST", "/api/patients/search/", SEARCHED, sample="names"),
        lambda rows: 0 < len(rows) <= PAGE,
    ),
    "doctors, ?specialization=": doctors(
        "&specialization=Cardiology", 4, of_each(lambda row: row["specialization"] == "Cardiology")
    ),
    "doctors, with a token": doctors("", 2, is_page, token=True),
}
NAMES = (*PLAIN_NAMES, *EVERYDAY_CALLS)
