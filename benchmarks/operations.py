"""What is asked of every server, in the words of each."""

import base64
from dataclasses import dataclass, replace

from benchmarks.data import DEPTH, PAGE, Caller

CREATED = '{"name": "John Smith", "age": 34, "gender": "M", "address": "# Residency Road, Bengaluru"}'
CHANGED = '{"address": "# Church Street, Bengaluru"}'


@dataclass(frozen=True)
class Request:
    """In `path` and `body` @ is an id of the caller's patients, # a number that never comes twice."""

    method: str
    path: str
    body: str = ""
    token: bool = True
    treated: bool = False  # @ is a patient who has doctors

    def filled(self, caller: Caller, number: int) -> "Request":
        """One that can be sent as it stands."""
        key = str((caller.treated if self.treated else caller.ids)[number])
        path, body = (text.replace("@", key).replace("#", str(number)) for text in (self.path, self.body))
        return replace(self, path=path, body=body)


def requests(caller: Caller, paging: str) -> dict[str, Request]:
    """The operations by name, for a server that pages by "cursor", by "page" or by "offset"."""
    cursor = base64.urlsafe_b64encode(f"<{caller.after}".encode()).decode().rstrip("=")
    first, deep = {
        "cursor": (f"?limit={PAGE}", f"?limit={PAGE}&cursor={cursor}"),
        "page": ("", f"?page={DEPTH // PAGE + 1}"),
        "offset": (f"?limit={PAGE}", f"?limit={PAGE}&offset={DEPTH}"),
    }[paging]
    return {
        "get one": Request("GET", "/api/patients/@/"),
        "list 20": Request("GET", f"/api/patients/{first}"),
        "create": Request("POST", "/api/patients/", CREATED),
    }
