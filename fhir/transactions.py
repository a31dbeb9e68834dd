"""POST /fhir: batches and transactions (https://hl7.org/fhir/R4/http.html#transaction)."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import parse_qsl

import simplejson
from django.db import connection, transaction
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from audit.middleware import record_refusal
from audit.models import Basis
from fhir.elements import instant
from fhir.entries import BundleEntry, answer_entry, read_entry
from fhir.exceptions import EntryFailed, Invalid
from fhir.issues import Issue
from fhir.json import decode_own
from fhir.references import RECORD_ID, own_reference, references_in, replace_references
from fhir.requests import FhirView
from fhir.search.views import lock_condition
from fhir.structure import check_structure
from healthcare.api.exceptions import Conflict, DatabaseUnavailable
from healthcare.api.idempotency import IdempotentMixin
from healthcare.api.viewsets import ActsForOwner

LARGEST_BUNDLE = 100
LONGEST = 20.0  # seconds in which the last entry has to begin; each statement has its own timeout
LARGEST_ANSWER = 16 * 1024 * 1024  # characters, of all resources that a Bundle returns
PROCESSING_ORDER = {"DELETE": 0, "POST": 1, "PUT": 2, "GET": 3, "HEAD": 3}  # R4's, in a transaction
READING_METHODS = {"GET", "HEAD"}
# A reference by a search, whose parameters only select: https://hl7.org/fhir/R4/http.html#trules.
CONDITIONAL = re.compile(r"[A-Z][A-Za-z]{0,63}\?[^#\s]+")
SELECTING = {"_id", "_lastUpdated"}  # of the parameters that begin with _
NOT_FOUND = "No entry of this transaction that creates or updates a resource has this `fullUrl`."
CIRCLE = (
    "These resources refer to each other in a circle. Create one of them without the reference, and add that by an "
    "update afterwards."
)
SLOW_BUNDLE = "Nothing was written: these entries take too long together. Send fewer of them at once."
LARGE_ANSWER = "Nothing was written: the answer would be too large. Send fewer entries, or ask for fewer resources."


class BundleView(FhirView, ActsForOwner, IdempotentMixin, viewsets.ViewSet):
    """Answers each entry by the view of its path: see `fhir.entries`.

    The whole Bundle is one transaction of the database. In a batch each entry has a savepoint, so that an error of one
    undoes nothing of the others; a transaction ends at the first error. What is no answer to an entry, but a fault of
    the moment (503), ends a batch, too: an answer that is kept for an Idempotency-Key must not hold it.
    """

    writable_by_tokens = True
    action_roles = {"process": "read"}  # each entry needs the role of its own view
    record_viewsets: Sequence[Any] = ()  # of the types that clients write

    def process(self, request: Request) -> Response:
        entries = self.read_entries()
        request._request.entries = len(entries)  # type: ignore[attr-defined]  # for the general limit
        self.started, self.length = time.monotonic(), 0
        sent: Any = request.data
        is_batch = sent["type"] == "batch"
        self.lock_records(entries)
        answers = self.run_batch(entries) if is_batch else self.run_transaction(entries)
        if any(entry.method not in READING_METHODS for entry in entries):
            with connection.cursor() as cursor:  # a read makes the commit asynchronous: see `AccessLog`
                cursor.execute("SET LOCAL synchronous_commit TO DEFAULT")
        body: dict[str, Any] = {
            "resourceType": "Bundle",
            "type": "batch-response" if is_batch else "transaction-response",
        }
        if entries:  # R4 has no empty arrays
            body["entry"] = [self.represent(entry, answers[entry.place]) for entry in entries]
        return self.answer(body)

    def read_entries(self) -> list[BundleEntry]:
        """The entries of the Bundle in the body. Raises Invalid: 413 for too many, 400 for a Bundle that is not
        valid. The views check the resources in it."""
        bundle: Any = self.request.data
        sent = bundle.get("entry")
        if isinstance(sent, list) and len(sent) > LARGEST_BUNDLE:
            problem = f"Send at most {LARGEST_BUNDLE} entries in one Bundle."
            raise Invalid(Issue("too-long", problem, "Bundle.entry"), status=413)
        frame = bundle
        if isinstance(sent, list):
            frame = {**bundle, "entry": [without_resource(entry) for entry in sent]}
        issues = check_structure("Bundle", frame)
        if issues:
            raise Invalid(*issues)
        if bundle["type"] not in {"batch", "transaction"}:
            raise Invalid(Issue("not-supported", "Send a Bundle of the type batch or transaction.", "Bundle.type"))
        return [read_entry(place, entry, self.base) for place, entry in enumerate(sent or ())]

    def lock_records(self, entries: list[BundleEntry]) -> None:
        """Lock the conditions of creates, and the records that entries write, in one order, so that two Bundles never
        wait for each other."""
        for kind, condition in sorted({entry.condition for entry in entries if entry.condition}):
            lock_condition(kind, self.owner.pk if kind == "Patient" else self.request.user.pk, condition)
        targets = {entry.target for entry in entries if entry.method in {"PUT", "DELETE"}}
        for viewset in sorted(self.record_viewsets, key=lambda viewset: str(viewset.resource_type)):
            keys = [
                int(key)
                for name, key in filter(None, targets)
                if name == viewset.resource_type and RECORD_ID.fullmatch(key)
            ]
            if len(keys) > 1:
                records = viewset.scope(self.owner).filter(pk__in=keys).order_by("pk")
                list(records.select_for_update(no_key=True).values_list("pk", flat=True))

    def run(self, entry: BundleEntry) -> Response:
        """The answer to one entry. Raises DatabaseUnavailable (503) and Invalid for what ends the Bundle."""
        if time.monotonic() - self.started > LONGEST:
            raise Invalid(Issue("too-costly", SLOW_BUNDLE), status=503)
        response = answer_entry(entry, self.request, self.handle_exception)
        if response.status_code >= 500:
            raise DatabaseUnavailable
        self.length += len(response.data or "")
        if self.length > LARGEST_ANSWER:
            raise Invalid(Issue("too-costly", LARGE_ANSWER), status=413)
        return response

    def run_batch(self, entries: list[BundleEntry]) -> dict[int, Response]:
        answers = {}
        for entry in entries:
            with transaction.atomic():
                try:
                    refuse_links(entry)
                except Invalid as error:
                    answers[entry.place] = self.handle_exception(error)
                else:
                    answers[entry.place] = self.run(entry)
                transaction.set_rollback(answers[entry.place].status_code >= 400)
        return answers

    # Transactions

    def run_transaction(self, entries: list[BundleEntry]) -> dict[int, Response]:
        check_identities(entries)
        links = {entry.full_url: "/".join(entry.target) for entry in entries if entry.method == "PUT" and entry.target}
        answers = {}
        for entry in processing_order(entries):
            if entry.resource is not None:
                entry.resource = self.resolve_references(entry, links)
            response = answers[entry.place] = self.run(entry)
            if response.status_code >= 400:
                raise EntryFailed(failure_of(entry, response), response.status_code)
            if entry.method == "POST" and entry.full_url:
                links[entry.full_url] = self.created(response)
        return answers

    def created(self, response: Response) -> str:
        """The resource that a create has created or, a conditional one, found."""
        found = own_reference(response.get("Location") or response.get("Content-Location") or "", self.base)
        if found is None:
            raise Conflict
        return "/".join(found)

    def resolve_references(self, entry: BundleEntry, links: dict[str, str]) -> Any:
        """The resource of an entry, with the ids of other entries in place of their `fullUrl`, and those of the
        resources that searches find in place of the searches. Raises Invalid for a link that leads nowhere."""

        def resolve(reference: str, expression: str) -> str:
            for url in full_urls(reference, entry.full_url):
                if url in links:
                    return links[url]
            if CONDITIONAL.fullmatch(reference):
                return self.search(reference, entry.expression_of(expression))
            if is_urn(reference):
                raise Invalid(Issue("not-found", NOT_FOUND, entry.expression_of(expression)))
            return reference

        return replace_references(entry.resource, stated_type(entry.resource), resolve)

    def search(self, reference: str, expression: str) -> str:
        """The one resource that a search finds. Raises Invalid (412) if it finds none or several."""
        names = {name for name, _ in parse_qsl(reference.partition("?")[2], keep_blank_values=True)}
        if any(name.startswith("_") and name.partition(":")[0] not in SELECTING for name in names) or not names:
            raise Invalid(
                Issue("invalid", "Search by parameters that select resources, and by those alone.", expression)
            )
        # Whatever the client prefers, an unknown parameter must not select everything.
        search = BundleEntry(0, "GET", f"{reference}&_count=2", headers={"HTTP_PREFER": "handling=strict"})
        response = self.run(search)
        if response.status_code >= 400:
            outcome = decode_own(response.data)
            for issue in outcome["issue"]:
                issue.pop("location", None)
                issue["expression"] = [expression]
            raise EntryFailed(outcome, response.status_code)
        found = [entry["resource"] for entry in decode_own(response.data).get("entry", ())]
        if len(found) != 1:
            problem = "The search in this reference must find one resource; it finds " + (
                "several." if found else "none."
            )
            raise Invalid(Issue("multiple-matches" if found else "not-found", problem, expression), status=412)
        return f"{found[0]['resourceType']}/{found[0]['id']}"

    # The answer

    def represent(self, entry: BundleEntry, response: Response) -> dict[str, Any]:
        """The entry of the answer. Its resource is the text that the view has written."""
        answer = {"status": str(response.status_code)}
        for name, header in (("location", "Location"), ("etag", "ETag")):
            if header in response:
                answer[name] = response[header]
        if "Last-Modified" in response:
            answer["lastModified"] = instant(parsedate_to_datetime(response["Last-Modified"]))
        text = None if entry.method == "HEAD" else response.data
        if not text:
            return {"response": answer}
        written = simplejson.RawJSON(text)
        if response.status_code >= 400 or text.startswith('{"resourceType":"OperationOutcome"'):
            return {"response": answer | {"outcome": written}}
        resource: dict[str, Any] = {"resource": written, "response": answer}
        target = own_reference(response.get("Location", ""), self.base) or entry.target
        if target is None or "ETag" not in response:  # no resource, but a Bundle of several
            return resource
        return {"fullUrl": f"{self.base}/{'/'.join(target)}", **resource}

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        final = super().finalize_response(request, response, *args, **kwargs)
        refused = getattr(request, "refused_delegate", None)
        if refused:
            access: dict[str, Any] = {
                "actor": refused,
                "action": "patient.bundle",
                "patient_ids": [],
                "basis": Basis.DELEGATE,
                "request_id": getattr(request, "request_id", ""),
                "outcome": final.status_code,
            }
            record_refusal(request._request, access)
        return final


def without_resource(entry: Any) -> Any:
    """An entry with a resource that is valid in place of its own."""
    has_resource = isinstance(entry, dict) and isinstance(entry.get("resource"), dict)
    return {**entry, "resource": {"resourceType": "Basic"}} if has_resource else entry


def is_urn(reference: str) -> bool:
    return reference.startswith("urn:")


def stated_type(resource: Any) -> str:
    """The type of a resource that no view has checked yet, to begin its expressions."""
    return str(resource.get("resourceType", "Resource"))


def references_of_entry(entry: BundleEntry) -> Iterator[tuple[str, str]]:
    return references_in(entry.resource, stated_type(entry.resource)) if entry.resource is not None else iter(())


def refuse_links(entry: BundleEntry) -> None:
    """Raises Invalid for a reference from an entry of a batch to another one: each is independent of the others."""
    for reference, expression in references_of_entry(entry):
        if is_urn(reference):
            problem = "The entries of a batch cannot refer to each other; send a transaction."
            raise Invalid(Issue("not-found", problem, entry.expression_of(expression)))


def check_identities(entries: Iterable[BundleEntry]) -> None:
    """Raises Invalid for a resource that two entries of a transaction write."""
    targets: set[tuple[str, str]] = set()
    for entry in entries:
        entry.check()
        if entry.method in {"PUT", "DELETE"} and entry.target:
            if entry.target in targets:
                problem = "Write each resource once in a transaction."
                raise Invalid(Issue("duplicate", problem, f"{entry.expression}.request.url"))
            targets.add(entry.target)


def processing_order(entries: list[BundleEntry]) -> list[BundleEntry]:
    """The entries in R4's order of processing: by method, and each create after those that it refers to.

    Raises Invalid if these refer to each other in a circle: the database gives an id to a row that it writes.
    """
    creates = {entry.full_url: entry for entry in entries if entry.method == "POST" and entry.full_url}
    graph: TopologicalSorter[int] = TopologicalSorter()
    # A search may find what another entry creates.
    for entry in sorted(
        entries, key=lambda entry: any(CONDITIONAL.fullmatch(text) for text, _ in references_of_entry(entry))
    ):
        if entry.method != "POST":
            continue
        linked = [
            url for text, _ in references_of_entry(entry) for url in full_urls(text, entry.full_url) if url in creates
        ]
        graph.add(entry.place, *(creates[url].place for url in linked))
    try:
        created = [entries[place] for place in graph.static_order()]
    except CycleError as error:
        first = entries[min(error.args[1])]
        raise Invalid(Issue("not-supported", CIRCLE, f"{first.expression}.resource")) from error
    others = sorted(
        (entry for entry in entries if entry.method != "POST"), key=lambda entry: PROCESSING_ORDER[entry.method]
    )
    return sorted([*created, *others], key=lambda entry: PROCESSING_ORDER[entry.method])


def full_urls(reference: str, full_url: str) -> Iterator[str]:
    """The values of `fullUrl` that a reference may mean in an entry with this one.

    https://hl7.org/fhir/R4/bundle.html#references: a relative reference is relative to the base of the `fullUrl`.
    """
    yield reference
    base = re.fullmatch(r"(https?://.+)/[A-Za-z]+/[A-Za-z0-9.-]{1,64}", full_url)
    if base and ":" not in reference:
        yield f"{base[1]}/{reference}"


def failure_of(entry: BundleEntry, response: Response) -> dict[str, Any]:
    """The OperationOutcome of an entry, whose expressions begin at the Bundle."""
    outcome: dict[str, Any] = decode_own(response.data)
    for issue in outcome["issue"]:
        issue.pop("location", None)
        issue["expression"] = [entry.expression_of(text) for text in issue.get("expression", [""])]
    return outcome
