"""What is asked of every server, in the words of each."""

import base64
from dataclasses import dataclass, replace

from benchmarks.data import DEPTH, PAGE, PASSWORD, Caller

CREATED = '{"name": "John Smith", "age": 34, "gender": "M", "address": "# Residency Road, Bengaluru"}'
CHANGED = '{"address": "# Church Street, Bengaluru"}'
LOGIN = f'{{"username": "@", "password": "{PASSWORD}"}}'
SEARCHES = ("search hit", "search miss")


@dataclass(frozen=True)
class Request:
    """In `path` and `body` @ is one of the caller's `sample`, # a number that never comes twice."""

    method: str
    path: str
    body: str = ""
    token: bool = True
    sample: str = "patients"

    def filled(self, caller: Caller, number: int) -> "Request":
        """One that can be sent as it stands."""
        chosen = caller.samples[self.sample][number]
        path, body = (text.replace("@", chosen).replace("#", str(number)) for text in (self.path, self.body))
        return replace(self, path=path, body=body)


def requests(caller: Caller, paging: str) -> dict[str, Request]:
    """The operations by name, for a server that pages by "cursor", by "page" or by "offset"."""
    cursor = base64.urlsafe_b64encode(f"[false,{caller.after}]".encode()).decode().rstrip("=")
    size, deep = {
        "cursor": (f"limit={PAGE}", f"limit={PAGE}&cursor={cursor}"),
        "page": ("", f"page={DEPTH // PAGE + 1}"),
        "offset": (f"limit={PAGE}", f"limit={PAGE}&offset={DEPTH}"),
    }[paging]
    return {
        "get one": Request("GET", "/api/patients/@/"),
        "list 20": Request("GET", f"/api/patients/?{size}"),
        "list at depth": Request("GET", f"/api/patients/?{deep}"),
        "create": Request("POST", "/api/patients/", CREATED),
        "patch": Request("PATCH", "/api/patients/@/", CHANGED),
        "public doctors": Request("GET", f"/api/doctors/?{size}", token=False),
        "a patient's doctors": Request("GET", "/api/patients/@/doctors/", sample="treated"),
        "login": Request("POST", "/api/auth/login/", LOGIN, token=False, sample="logins"),
        "search hit": Request("GET", f"/api/patients/?search=@&{size}", sample="names"),
        "search miss": Request("GET", f"/api/patients/?search=@&{size}", sample="strangers"),
    }
