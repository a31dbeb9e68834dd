"""What each app declares about itself for the tests of the whole project, and how these tests collect it.

An app declares a `CONTRACT` in `<app>/tests/contract.py`. The tests in `healthcare/tests/` collect the contracts of all
INSTALLED_APPS, so a new app edits its own folder, `settings.py` and `urls.py`. Nothing can be left out: a route without
a row, an operation, an admin model or a list without a declaration fails.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db.models import Model

from accounts.models import User
from audit.history import event_model_of
from healthcare.api.acting_for import role_suffices

if TYPE_CHECKING:
    from healthcare.tests.cast import Cast

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# The callers of the contract matrix, and whose records are their own. A caller whose login is rejected tries alice's.
ACTIVE_CALLERS = {"owner": "alice", "other": "bob", "staff": "staff"}
REJECTED_CALLERS = ["inactive", "expired", "tampered", "revoked", "refresh token", "otp-pending"]
# The latter has sent a password without the code of the second factor, and got no token.
CALLERS_WITHOUT_TOKEN = {"anonymous", "otp-pending"}
# Callers who send a personal access token of alice's, by its scope.
TOKEN_CALLERS = {"token-read": "read", "token-write": "write"}
# Callers who send X-Acting-For. Delegates act for alice, in these roles; the delegation of the others does not work.
DELEGATES = {"delegate-read": "read", "delegate-write": "write", "delegate-manage": "manage"}
NOT_DELEGATES = ["delegate-expired", "delegate-revoked", "wrong-owner", "unknown-owner"]
ACTING_CALLERS = [*DELEGATES, *NOT_DELEGATES]
# The caller who sends the header to routes that ignore it, and the user whose own records the requests work on there.
IGNORED_HEADER_CALLER, IGNORED_HEADER_USER = "delegate-manage", "mia"

Body = Callable[["Cast", str], dict[str, Any]]


def empty_body(cast: "Cast", owner: str) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    """A row of the contract matrix: a route, and the status with which each method answers a caller who may call it.

    route: the template of the path, as Django writes it: "api/patients/<int:pk>/".
    access: who may call it:
        PRIVATE  a logged-in caller, and a record only its owner;
        SHARED   anyone reads, any logged-in caller writes;
        COMMON   any logged-in caller, for records of any owner;
        STAFF    a logged-in member of staff; any other caller gets 403;
        OPEN     anyone;
        PAGE     anyone, and the answer may be cached.
    methods: the status by method. A method that is not named answers 405; HEAD follows GET; OPTIONS answers 200.
    body: builds the JSON body of POST, PUT and PATCH from the cast and the name of the caller's user, by method where
        that differs.
    records: the kind of record (see `Cast.add`) that the id in the path names, by method where that differs.
    finds_deleted: the methods that find a deleted record too, to restore it, say.
    delete_has_body: whether a DELETE needs the body, too.
    roles: the role that each method needs of a delegate; a route without any ignores X-Acting-For. HEAD follows GET.
    by_tokens: what a personal access token may do beside reading: "nothing" (403 `not_by_token`), "everything", or
        "end itself", where the path names a session. A token of the scope `read` gets 403 `insufficient_scope`, unless
        the method needs the role `read` alone.
    content_type: of the body; an object in JSON is a file of one record, too.
    deleted: the status of a deleted record by method, where it is not that of a missing one. HEAD follows GET.
    errors: the media type of errors.
    version: the version that the path names, from the cast and the name of the caller's user.
    reads: the methods that change nothing: anyone may call them where the access is SHARED.
    of_caller: whether a record is its caller's alone: those who act for the same owner do not see it.
    """

    route: str
    access: str
    methods: dict[str, int]
    body: Body | Mapping[str, Body] = empty_body
    records: str | dict[str, str] = ""
    finds_deleted: Set[str] = frozenset()
    delete_has_body: bool = False
    roles: Mapping[str, str] = field(default_factory=dict)
    by_tokens: str = "nothing"
    content_type: str = "application/json"
    deleted: Mapping[str, int] = field(default_factory=dict)
    errors: str = "application/problem+json"
    version: Callable[["Cast", str], int] = lambda cast, owner: 1
    reads: Set[str] = frozenset(SAFE_METHODS)
    of_caller: bool = False

    def callers(self) -> list[str]:
        acting = ACTING_CALLERS if self.roles else [IGNORED_HEADER_CALLER]
        return ["anonymous", *ACTIVE_CALLERS, *REJECTED_CALLERS, *TOKEN_CALLERS, *acting]

    def owner(self, caller: str) -> str:
        """The name of the user whose records are the caller's own here."""
        if caller == IGNORED_HEADER_CALLER and not self.roles:
            return IGNORED_HEADER_USER
        return ACTIVE_CALLERS.get(caller, "alice")

    def problem_code(self, method: str, caller: str, target: str = "") -> str | None:
        """The code of the 403 for a caller who acts for an owner, or sends a personal access token, with this method;
        None unless they are refused."""
        if caller in TOKEN_CALLERS:
            return self.problem_of_token(method, TOKEN_CALLERS[caller], target)
        if not self.roles or caller not in ACTING_CALLERS:
            return None
        if caller in NOT_DELEGATES:
            return "not_a_delegate"
        needed = self.roles.get("GET" if method == "HEAD" else method, "read")
        return None if role_suffices(DELEGATES[caller], needed) else "role_too_low"

    def problem_of_token(self, method: str, scope: str, target: str) -> str | None:
        if method in SAFE_METHODS or method not in self.methods or self.access in {"OPEN", "PAGE"}:
            return None
        if self.by_tokens == "nothing":
            return "not_by_token"
        if scope == "read" and self.roles.get(method) != "read" and method not in self.reads:
            return "insufficient_scope"
        return "not_by_token" if self.by_tokens == "end itself" and target == "own" else None

    def build_body(self, method: str, cast: "Cast", owner: str) -> dict[str, Any]:
        build = self.body if callable(self.body) else self.body.get(method, empty_body)
        return build(cast, owner)

    def kind(self, method: str) -> str:
        return self.records if isinstance(self.records, str) else self.records.get(method, self.records["GET"])

    def expected(self, method: str, caller: str, target: str) -> int:
        """The status for a target: "own", "another's", "missing", "deleted", or "" for a route without an id."""
        reads = self.access == "SHARED" and method in self.reads
        rejected = not reads if caller in CALLERS_WITHOUT_TOKEN else caller in REJECTED_CALLERS
        if self.access in {"PRIVATE", "SHARED", "COMMON", "STAFF"} and rejected:
            return 401
        if self.access == "STAFF" and caller != "staff":
            return 403
        if self.problem_code(method, caller, target):
            return 403
        default = {"HEAD": self.methods.get("GET", 405), "OPTIONS": 200}.get(method, 405)
        status = self.methods.get(method, default)
        if target == "deleted":
            method_of_row = "GET" if method == "HEAD" else method
            if method_of_row in self.finds_deleted | self.deleted.keys():
                return self.deleted.get(method_of_row, status)
        visible = target in ({"", "own", "another's"} if self.access in {"SHARED", "COMMON"} else {"", "own"})
        visible = visible and not (self.of_caller and caller in DELEGATES)
        return status if visible or status == 405 or method == "OPTIONS" else 404


@dataclass(frozen=True)
class Operation:
    """An operation of the OpenAPI description.

    query: its query parameters; `limit`, `cursor` and `count` of a paged list are implied.
    paged: answers a page of a list, with the headers Link and X-Total-Count.
    etag: a successful answer is one record and has an ETag.
    preconditions: which of If-Match and If-None-Match it takes.
    idempotency_key: whether a POST takes an Idempotency-Key; other methods never do.
    public: needs no access token.
    answers: the media types of a successful answer with a body.
    """

    query: Set[str] = frozenset()
    paged: bool = False
    etag: bool = False
    preconditions: Set[str] = frozenset()
    idempotency_key: bool = True
    public: bool = False
    answers: Set[str] = frozenset({"application/json"})


# The operations of a record. Use `dataclasses.replace` to add query parameters.
LIST_RECORDS = Operation(paged=True)
CREATE_RECORD = Operation(etag=True)
READ_RECORD = Operation(etag=True, preconditions={"If-Match", "If-None-Match"})
CHANGE_RECORD = Operation(etag=True, preconditions={"If-Match"})
DELETE_RECORD = Operation(preconditions={"If-Match"})
IMPORT_PARAMETERS = {
    "mode", "match", "on_match", "on_likely", "partial", "empty", "map", "date_format", "encoding", "delimiter",
}  # fmt: skip


def export_of(records: Operation) -> Operation:
    """The export of a list: it takes the parameters of the list but those of pages."""
    query = (records.query - {"include"}) | {"format", "bom"}
    return Operation(query=query, public=records.public, answers={"text/csv", "application/x-ndjson"})


@dataclass(frozen=True)
class ListParameters:
    """Values for every query parameter of a list of owned records, but for `as_of` and `cursor`.

    naming: for a parameter that can name a record or a person, a function of the cast and the name of another user. It
        returns a value that names what belongs to that user, and one that names nothing; the answers must not differ.
    narrowing: for every other parameter a value that finds records of each user, or a function of the cast for one.
    owner: the id of the user to whom a record of the answer belongs.
    """

    naming: Mapping[str, Callable[["Cast", str], tuple[str, str]]] = field(default_factory=dict)
    narrowing: Mapping[str, "str | Callable[[Cast], str]"] = field(default_factory=dict)
    owner: Callable[[dict[str, Any]], int] = lambda record: record["created_by"]


@dataclass(frozen=True)
class AdminPage:
    """A page of a model in the admin beside Django's own, which are the list, add, change, delete and history.

    path: below the path of the model, with `{pk}` for the key of a record: "{pk}/merge/".
    verb: the permission on the model that it needs.
    posted: what a POST sends that changes something, from the owner of the records and the record; None if the page
        takes no POST.
    status: the status of a GET for users who may see the page.
    parameters: the other parameters of the path, from the record.
    """

    path: str
    verb: str
    posted: Callable[[User, Any], dict[str, Any]] | None = None
    status: int = 200
    parameters: Callable[[Any], dict[str, Any]] = lambda record: {}


def restore_version_page(**changed: Any) -> AdminPage:
    """The page that restores the first version of a record, of which these columns have been changed since."""

    def change_and_find_first(record: Any) -> dict[str, Any]:
        type(record).objects.filter(pk=record.pk).update(**changed)
        record.refresh_from_db()
        events = event_model_of(type(record)).objects.filter(id=record.pk)
        return {"event_id": events.earliest("pgh_id").pk}

    return AdminPage(
        "{pk}/history/{event_id}/restore/",
        "restore",
        lambda owner, record: {"compared_with": record.version},
        parameters=change_and_find_first,
    )


def end(record: Any) -> None:
    """Hide a record, so that it can be restored."""
    type(record)._default_manager.filter(pk=record.pk).end()


@dataclass(frozen=True)
class AdminModel:
    """A model in the admin.

    label: "patients.Patient".
    create: creates a record that belongs to this user.
    read_only: the admin has no pages to add, delete and follow it.
    action: a bulk action of its changelist.
    roles: the verbs of the permissions that each role has on the model: {"Front desk": "add change view"}.
    allows: what Django's own pages let a superuser do, all four verbs if empty and not `read_only`.
    added: what the form to add a record needs, from the owner.
    changed: what the form to change a record sends beside what it shows.
    actions: the bulk actions of its changelist, each with the verb of the permission that it needs. A `PreviewedAction`
        has a page of its own, too.
    prepare: what to do with a record before some of these actions change it.
    selected: the ids of all records that some of these actions need, given one record.
    sent: what the forms of some of these actions need, from the owner.
    pages: the pages beside Django's own.
    """

    label: str
    create: Callable[[User], Model]
    read_only: bool = False
    action: str = "delete_selected"
    roles: Mapping[str, str] = field(default_factory=dict)
    allows: str = ""
    added: Callable[[User], dict[str, Any]] = lambda owner: {}
    changed: Mapping[str, Any] = field(default_factory=dict)
    actions: Mapping[str, str] = field(default_factory=lambda: {"delete_selected": "delete"})
    prepare: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    selected: Mapping[str, Callable[[Any], Sequence[int]]] = field(default_factory=dict)
    sent: Mapping[str, Callable[[User], dict[str, Any]]] = field(default_factory=dict)
    pages: Sequence[AdminPage] = ()

    @property
    def path(self) -> str:
        return f"/admin/{self.label.lower().replace('.', '/')}/"

    @property
    def model(self) -> type[Model]:
        return apps.get_model(self.label)

    @property
    def allowed_verbs(self) -> set[str]:
        return {*(self.allows or ("view" if self.read_only else "view add change delete")).split()}

    def verbs_of(self, role: str) -> set[str]:
        return {*self.roles.get(role, "").split()}


@dataclass(frozen=True)
class BadValues:
    """Values that a POST must refuse with a 400 that points to their field.

    path: the path of the POST.
    body: a body that would be accepted; "@patient" and "@doctor" stand for the ids of records of the caller.
    fields: the bad values by field.
    by: who sends it: "alice", "staff" or "anonymous".
    """

    path: str
    body: Mapping[str, Any]
    fields: Mapping[str, Sequence[Any]]
    by: str = "alice"


@dataclass(frozen=True)
class Contract:
    """All that an app declares.

    create_records: gives a user of the cast one active and one deleted record of each kind, with `Cast.add`.
    operations: by `operationId`.
    lists: by path; every list of owned records that takes more than the parameters of paging.
    prepare_lists: changes the records of the cast so that `lists` finds them.
    """

    rows: Sequence[Row] = ()
    operations: Mapping[str, Operation] = field(default_factory=dict)
    create_records: Callable[["Cast", User], None] | None = None
    lists: Mapping[str, ListParameters] = field(default_factory=dict)
    prepare_lists: Callable[["Cast"], None] | None = None
    admin: Sequence[AdminModel] = ()
    bad_values: Sequence[BadValues] = ()


@cache
def contracts() -> dict[str, Contract]:
    """The contract of each installed app that declares one, by the app's name, in the order of INSTALLED_APPS."""
    found: dict[str, Contract] = {}
    for config in apps.get_app_configs():
        if Path(config.path, "tests", "contract.py").exists():
            found[config.name] = import_module(f"{config.name}.tests.contract").CONTRACT
    return found


def all_rows() -> list[Row]:
    return [row for contract in contracts().values() for row in contract.rows]


def described_rows() -> list[Row]:
    """The rows that the OpenAPI description describes. /fhir has a CapabilityStatement, and errors of its own."""
    return [row for row in all_rows() if row.errors == "application/problem+json"]


def all_operations() -> dict[str, Operation]:
    return {name: operation for contract in contracts().values() for name, operation in contract.operations.items()}


def all_lists() -> dict[str, ListParameters]:
    return {path: lists for contract in contracts().values() for path, lists in contract.lists.items()}


def all_admin_models() -> list[AdminModel]:
    return [model for contract in contracts().values() for model in contract.admin]


def all_bad_values() -> list[BadValues]:
    return [values for contract in contracts().values() for values in contract.bad_values]
