"""Searches by `?search=` and `POST /…/search/`: both paths answer and record the same, the fast one in few messages."""

import datetime
import json
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.urls import path, resolve
from django.utils import timezone
from django.utils.functional import cached_property
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import LoginSession, User
from accounts.personal_tokens.rules import create_token
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.models import DOCTOR_SEARCH, Doctor
from doctors.tests.factories import make_doctor
from doctors.views import DoctorViewSet
from healthcare.api.search_by_post import SearchByPostMixin
from healthcare.api.unknown_parameters import known_parameters
from healthcare.coverage import covered_by_fast_path
from healthcare.fastpath import views
from healthcare.fastpath.searches import FastHits
from healthcare.fastpath.tests.conftest import Both
from healthcare.fastpath.views import FastActions
from healthcare.search.hits import Hits
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from mappings.views import PatientDoctorsViewSet
from patients.models import Patient
from patients.tests.factories import make_patient
from patients.views import PatientViewSet

LIST, SEARCH = "/api/patients/", "/api/patients/search/"
NAMES = ["Jon Smith", "John Smith", "Johnny Smith", "Jon Smyth", "Joan Smithson", "John Smith", "Asha Nair", "Jon Nair"]


@pytest.fixture
def doctor(alice: User, bob: User) -> Doctor:
    """The doctor of every other of alice's patients."""
    make_patient(bob, name="John Smith of bob")
    doctor = make_doctor(alice, name="Dr Smith", specialization="Cardiology")
    for number, name in enumerate(NAMES):
        fields = {"gender": "MFU"[number % 3], "identifier": f"A-{number}", "phone": f"+91 80 5550 010{number}"}
        patient = make_patient(alice, name=name, **fields, birth_year=1990 + number)
        if number % 2:
            make_mapping(patient, doctor)
    return doctor


def compared(answer: Any) -> tuple[Any, ...]:
    headers = {name: value for name, value in answer.items() if name != "X-Request-Id"}
    body = json.loads(answer.content) if answer.content else None
    if isinstance(body, dict):
        body.pop("request_id", None)
    return answer.status_code, headers, body


def call(client: APIClient, path: str, body: Any = None, **headers: str) -> Any:
    return client.get(path, headers=headers) if body is None else client.post(path, body, headers=headers)


def served_by(answer: Any) -> str:
    return getattr(answer.wsgi_request, "served_by", "standard")


def answers_alike(both: Both, client: APIClient, path: str, body: Any = None, **headers: str) -> Any:
    """The answer of the fast path, which is that of standard DRF; so is what the access log has about it."""
    before = AccessLog.objects.count()
    standard, fast = both(lambda: call(client, path, body, **headers))
    assert compared(fast) == compared(standard)
    assert served_by(standard) == "standard"
    assert served_by(fast) == "fast", path
    rows = [
        {name: value for name, value in vars(row).items() if name not in {"_state", "id", "at", "request_id"}}
        for row in AccessLog.objects.order_by("pk")[before:]
    ]
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]
    return fast


def pages(answer: Any, relation: str) -> Iterator[str]:
    """The cursors that the Link header gives for a relation."""
    for link in answer.headers.get("Link", "").split(", "):
        if f'rel="{relation}"' in link:
            yield QueryDict(urlsplit(link.split(">")[0][1:]).query)["cursor"]


QUERIES = [
    {"search": "smith"}, {"search": "jon smith"}, {"search": "Jon"}, {"search": "SMITHSON joan"}, {"search": "A-3"},
    {"search": "080 5550 0103"}, {"search": "zzyzx"}, {"search": "  "}, {"search": ""}, {"search": "smith", "limit": 2},
    {"search": "jon smith", "limit": 1}, {"search": "smith", "gender": "M"},
    {"search": "smith", "gender": "M", "limit": 1},
    {"search": "jon", "age_min": 3, "fields": "id,name"}, {"search": "smith", "include": "doctors", "limit": 3},
    {"search": "smith", "fields": "age"}, {"search": "जॉन"}, {"search": "100%"},
    {"search": "smith smith nair jon asha"},
    {"search": "' OR 1=1 --"}, {"search": "x" * 200},
]  # fmt: skip


@pytest.mark.parametrize("by_post", [False, True])
@pytest.mark.parametrize("query", QUERIES)
def test_both_paths_answer_a_search_alike(
    as_alice: LoggedInClient, doctor: Doctor, both: Both, query: dict[str, Any], by_post: bool
) -> None:
    """Forwards to the last page and back to the first."""
    seen: list[list[Any]] = []
    parameters, relation = dict(query), "next"
    while True:
        if by_post:
            answer = answers_alike(both, as_alice, SEARCH, parameters)
        else:
            asked = QueryDict(mutable=True)
            asked.update(parameters)
            answer = answers_alike(both, as_alice, f"{LIST}?{asked.urlencode()}")
        seen.append(answer.json())
        cursor = next(pages(answer, relation), None)
        if cursor is None and relation == "next":
            relation = "prev"
            cursor = next(pages(answer, relation), None)
        if cursor is None:
            break
        parameters["cursor"] = cursor
    assert seen[-1] == seen[0]
    assert len({json.dumps(page) for page in seen}) == len(seen) // 2 + 1


@pytest.mark.parametrize("by_post", [False, True])
def test_a_filter_by_another_record_applies_to_a_search(
    as_alice: LoggedInClient, doctor: Doctor, both: Both, by_post: bool
) -> None:
    body = {"search": "smith", "doctor": doctor.pk}
    query = f"{LIST}?search=smith&doctor={doctor.pk}"
    found = answers_alike(both, as_alice, *([SEARCH, body] if by_post else [query])).json()
    assert [row["name"] for row in found] == ["John Smith", "John Smith"][: len(found)] + ["Jon Smyth"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("search=smith&ordering=name", 400), ("search=smith&cursor=x", 400), (f"search={'x' * 201}", 400),
        ("search=%00", 400), ("search=smith&search=nair", 400), ("search=smith&doctor=99", 400),
        ("search=zzyzx&doctor=99", 400), ("search=smith&gender=X", 400), ("search=smith&count=true", 200),
        ("search=smith&deleted=true", 200), ("search=smith&as_of=2020-01-01T00:00:00Z", 400),
        ("search=smith&limit=0", 400),
    ],
)  # fmt: skip
def test_standard_drf_answers_what_the_fast_search_does_not_know(
    as_alice: LoggedInClient, doctor: Doctor, both: Both, query: str, status: int
) -> None:
    standard, fast = both(lambda: as_alice.get(f"{LIST}?{query}"))
    assert compared(fast) == compared(standard)
    assert fast.status_code == status
    assert served_by(fast) == "standard"


@pytest.mark.parametrize(
    ("body", "path", "headers"),
    [
        ({"serach": "smith"}, SEARCH, {}), ({"search": ["smith"]}, SEARCH, {}), ({"limit": 1.5}, SEARCH, {}),
        ({"search": "smith", "count": True}, SEARCH, {}), ({"cursor": "x"}, f"{SEARCH}?cursor=x", {}),
        ({"search": "smith"}, f"{SEARCH}?limit=1", {}), ({"search": "smith"}, SEARCH, {"Prefer": "handling=lenient"}),
        ({"search": "smith"}, SEARCH, {"If-None-Match": "*"}), ({"search": "smith"}, SEARCH, {"If-Match": "*"}),
        ({"search": "smith"}, SEARCH, {"X-Change-Reason": "x"}),
        ({"search": "smith"}, SEARCH, {"Idempotency-Key": "k"}),
        ({"search": "smith", "email": "a" * 5000}, SEARCH, {}), ([], SEARCH, {}), ({"search": "\0"}, SEARCH, {}),
    ],
)  # fmt: skip
def test_standard_drf_answers_what_the_fast_search_by_post_does_not_know(
    as_alice: LoggedInClient, doctor: Doctor, both: Both, body: Any, path: str, headers: dict[str, str]
) -> None:
    standard, fast = both(lambda: call(as_alice, path, body, **headers))
    assert compared(fast) == compared(standard)
    assert served_by(fast) == "standard"


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        ("search=smith", "application/x-www-form-urlencoded"), ("{", "application/json"), ("", "application/json"),
        ('{"search": "a", "search": "b"}', "application/json"), ('{"limit": NaN}', "application/json"),
        ('{"search": "smith"}', "text/plain"), ('{"search": "smith"}', "*/*"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused_alike(
    as_alice: LoggedInClient, both: Both, content: str, content_type: str
) -> None:
    standard, fast = both(lambda: as_alice.generic("POST", SEARCH, content, content_type=content_type))
    assert compared(fast) == compared(standard)


def test_the_media_type_and_its_charset_may_be_in_capitals(as_alice: LoggedInClient, doctor: Doctor) -> None:
    answer = as_alice.generic("POST", SEARCH, '{"search": "nair"}', content_type="Application/JSON;charset=UTF-8")
    assert (answer.status_code, len(answer.json()), served_by(answer)) == (200, 2, "fast")


@pytest.mark.parametrize("path", ["/api/doctors/?search=smith", "/api/doctors/?search=smith&specialization=Cardiology"])
def test_a_search_of_the_directory_is_not_cached(
    anonymous: APIClient, as_alice: LoggedInClient, doctor: Doctor, both: Both, path: str
) -> None:
    for client in (anonymous, as_alice):
        assert [row["id"] for row in answers_alike(both, client, path).json()] == [doctor.pk]
    Doctor.objects.filter(pk=doctor.pk).update(name="Dr Nair")
    assert answers_alike(both, anonymous, path).json() == []


@pytest.mark.parametrize("body", [None, {"search": "smith"}])
def test_an_outsider_an_anonymous_caller_and_an_ended_session_find_nothing(
    as_alice: LoggedInClient,
    as_bob: LoggedInClient,
    anonymous: APIClient,
    alice: User,
    doctor: Doctor,
    both: Both,
    body: Any,
) -> None:
    path = f"{LIST}?search=smith" if body is None else SEARCH
    [own] = answers_alike(both, as_bob, path, body).json()
    assert own["name"] == "John Smith of bob"
    assert answers_alike(both, anonymous, path, body).status_code == 401
    LoginSession.objects.filter(user=alice).update(revoked_at=datetime.datetime.now(datetime.UTC))
    answer = answers_alike(both, as_alice, path, body)
    assert (answer.status_code, b"Smith" in answer.content) == (401, False)
    assert not AccessLog.objects.filter(actor=alice.pk).exists()


def test_a_session_that_ends_between_the_messages_reads_nothing(
    as_alice: LoggedInClient, alice: User, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = FastHits.look_up

    def and_end_session(hits: Any, page: Any) -> dict[int, int]:
        found = look_up(hits, page)
        assert found
        LoginSession.objects.filter(user=alice).update(revoked_at=datetime.datetime.now(datetime.UTC))
        return found

    monkeypatch.setattr(FastHits, "look_up", and_end_session)
    answer = as_alice.get(f"{LIST}?search=smith")
    assert (answer.status_code, served_by(answer)) == (401, "fast")
    assert not AccessLog.objects.exists()


def test_hits_that_vanish_between_the_messages_are_neither_answered_nor_recorded(
    as_alice: LoggedInClient, as_bob: LoggedInClient, bob: User, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign, look_up = Patient.objects.get(created_by=bob).pk, FastHits.look_up

    def and_delete_one(hits: Any, page: Any) -> dict[int, int]:
        found = look_up(hits, page)
        Patient.objects.filter(pk=next(iter(found))).update(deleted_at=datetime.datetime.now(datetime.UTC))
        return {foreign: 0, **found}

    monkeypatch.setattr(FastHits, "look_up", and_delete_one)
    answer = as_alice.get(f"{LIST}?search=smith&limit=2")
    [row] = AccessLog.objects.all()
    assert len(answer.json()) == 2
    assert sorted(record["id"] for record in answer.json()) == row.patient_ids
    assert foreign not in row.patient_ids


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("body", [None, {"search": "smith", "limit": 3}])
def test_a_delegate_searches_the_records_of_the_owner(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, doctor: Doctor, both: Both, body: Any
) -> None:
    path = f"{LIST}?search=smith&limit=3" if body is None else SEARCH
    Delegation.objects.create(owner=alice, delegate=bob, role="read")
    acting = {"X-Acting-For": "alice"}
    assert as_bob.get(LIST, headers=acting).status_code == 200  # the owner's id is known to the fast path from then on
    found = answers_alike(both, as_bob, path, body, **acting)
    assert found.json() == call(as_alice, path, body).json()
    assert AccessLog.objects.latest("pk").basis == "owner"
    assert AccessLog.objects.filter(actor=bob.pk, basis="delegate").count() == 3
    Delegation.objects.all().delete()
    standard, fast = both(lambda: call(as_bob, path, body, **acting))
    assert compared(fast) == compared(standard)
    assert fast.status_code == 403


def test_a_personal_access_token_that_may_read_searches(
    anonymous: APIClient, alice: User, doctor: Doctor, both: Both
) -> None:
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(alice, name='Report', scope='read').text}")
    assert anonymous.get(LIST).status_code == 200
    for url, body in ((f"{LIST}?search=smith", None), (SEARCH, {"search": "smith"})):
        assert len(answers_alike(both, anonymous, url, body).json()) == 6


def test_verify_compares_searches_and_records_one_access(
    as_alice: LoggedInClient,
    as_bob: LoggedInClient,
    alice: User,
    bob: User,
    doctor: Doctor,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    differences, find = [], views.differences

    def and_count(*answers: Any) -> list[str]:
        differences.append([*find(*answers)])
        return differences[-1]

    monkeypatch.setattr(views, "differences", and_count)
    Delegation.objects.create(owner=alice, delegate=bob, role="read")
    assert as_bob.get(f"{LIST}?limit=1", headers={"X-Acting-For": "alice"}).status_code == 200
    settings.FAST_PATH = "verify"
    for number, (client, headers) in enumerate([(as_alice, {}), (as_bob, {"X-Acting-For": "alice"})], 2):
        assert len(client.get(f"{LIST}?search=jon+smith&limit=4", headers=headers).json()) == 4
        assert AccessLog.objects.count() == number
    assert len(as_alice.post(SEARCH, {"search": "jon smith", "limit": 4}).json()) == 4
    assert len(differences) == 3
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


class SearchableDoctors(SearchByPostMixin, DoctorViewSet):
    fast_actions = DoctorViewSet.fast_actions | {"search"}


@pytest.mark.parametrize("editors", ["staff", "creator", "anyone"])
@pytest.mark.parametrize("permissions", [None, [IsAuthenticatedOrReadOnly], [IsAuthenticated], [AllowAny]])
def test_a_post_needs_the_permissions_of_a_post(
    as_alice: LoggedInClient,
    anonymous: APIClient,
    doctor: Doctor,
    both: Both,
    settings: Any,
    editors: str,
    permissions: list[Any] | None,
) -> None:
    known_parameters()
    settings.DIRECTORY_EDITORS = editors
    options = {} if permissions is None else {"permission_classes": permissions}
    settings.ROOT_URLCONF = (path("api/doctors/search/", SearchableDoctors.as_view({"post": "search"}, **options)),)
    seen = []
    for client in (anonymous, as_alice):
        standard, fast = both(partial(client.post, "/api/doctors/search/", {"limit": 1}))
        assert compared(fast) == compared(standard)
        seen.append(fast.status_code)
    restricted = permissions is None and editors == "staff"
    assert seen == [200 if permissions == [AllowAny] else 401, 403 if restricted else 200]


@pytest.mark.parametrize("members", [{"writable_by_tokens": False}, {"action_roles": {"search": "write"}}])
def test_a_token_needs_the_rights_of_a_post(
    anonymous: APIClient, alice: User, doctor: Doctor, both: Both, settings: Any, members: dict[str, Any]
) -> None:
    known_parameters()
    viewset: Any = type("Other", (PatientViewSet,), members)
    settings.ROOT_URLCONF = (
        path("api/patients/", viewset.as_view({"get": "list"})),
        path("api/patients/search/", viewset.as_view({"post": "search"})),
    )
    anonymous.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(alice, name='Report', scope='read').text}")
    assert anonymous.get(LIST).status_code == 200
    standard, fast = both(lambda: anonymous.post(SEARCH, {"search": "smith"}))
    assert compared(fast) == compared(standard)
    assert fast.status_code == 403


@pytest.mark.parametrize("filters", ["gender=M", "doctor={}"])
def test_a_filter_that_ceases_to_hold_between_the_messages_is_applied(
    as_alice: LoggedInClient, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, filters: str
) -> None:
    look_up = FastHits.look_up

    def and_change(hits: Any, page: Any) -> dict[int, int]:
        found = look_up(hits, page)
        Patient.objects.update(gender="F")
        Mapping.objects.update(ended_at=timezone.now())
        return found

    monkeypatch.setattr(FastHits, "look_up", and_change)
    assert as_alice.get(f"{LIST}?search=smith&{filters.format(doctor.pk)}").json() == []
    [row] = AccessLog.objects.all()
    assert row.patient_ids == []


@pytest.mark.parametrize("ended", [True, False])
def test_nothing_is_looked_up_for_a_caller_who_is_refused(
    as_alice: LoggedInClient, as_bob: LoggedInClient, alice: User, bob: User, doctor: Doctor, ended: bool
) -> None:
    acting = {"X-Acting-For": "alice"}
    delegation = Delegation.objects.create(owner=alice, delegate=bob, role="read")
    assert as_bob.get(LIST, headers=acting).status_code == 200
    delegation.delete()
    if ended:
        LoginSession.objects.all().update(revoked_at=timezone.now())
    with CaptureQueriesContext(connection) as queries:
        answer = as_alice.get(f"{LIST}?search=smith") if ended else as_bob.get(f"{LIST}?search=smith", headers=acting)
    assert answer.status_code == (401 if ended else 403)
    assert not [query for query in queries if "patients_patientterm" in query["sql"]]


def test_the_access_is_recorded_as_that_of_a_get(as_alice: LoggedInClient, doctor: Doctor, settings: Any) -> None:
    """Both commit the row without waiting for the disk."""
    settings.FAST_PATH = "off"
    sent = []
    for body in (None, {"search": "smith"}):
        with CaptureQueriesContext(connection) as queries:
            call(as_alice, f"{LIST}?search=smith" if body is None else SEARCH, body)
        sent.append(["synchronous_commit" in query["sql"] for query in queries if "audit_accesslog" in query["sql"]])
    assert sent == [[True], [True]]


@pytest.mark.parametrize("url", [SEARCH, LIST])
def test_a_content_type_with_an_extended_parameter_is_refused(as_alice: LoggedInClient, both: Both, url: str) -> None:
    sent = '{"search": "smith"}' if url == SEARCH else '{"name": "Jane", "age": 1, "gender": "F"}'
    standard, fast = both(
        lambda: as_alice.generic("POST", url, sent, content_type="application/json; charset*=utf-8''utf-8")
    )
    assert compared(fast) == compared(standard)
    assert fast.status_code == 415


def test_a_nested_list_with_an_index_does_not_search() -> None:
    nested: Any = type("Nested", (PatientDoctorsViewSet,), {"search_index": DOCTOR_SEARCH})
    actions: Any = FastActions(nested, {"get": "list"}, {}).by_method
    assert actions["GET"].search is None


class OfInstances:
    """A descriptor whose value in an instance is another one than in the class."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __get__(self, view: Any, kind: Any) -> Any:
        return self.value(view) if view else True


@pytest.mark.parametrize(
    "member", ["action_roles", "writable_by_tokens", "acts_for_owner", "search_index", "ordering_fields", "inclusions"]
)
@pytest.mark.parametrize("kind", [property, cached_property, OfInstances])
def test_an_attribute_that_only_an_instance_has_is_an_obstacle(member: str, kind: Any) -> None:
    viewset = type("Other", (PatientViewSet,), {member: kind(lambda view: getattr(PatientViewSet, member))})
    actions = FastActions(viewset, {"get": "list"}, {})
    assert f"Other.{member}" in [obstacle.member for obstacle in actions.obstacles["list"]]
    assert not actions.by_method


@pytest.mark.parametrize("member", ["fetch", "cursor", "look_up", "query_terms"])
def test_a_patched_search_is_an_obstacle(monkeypatch: pytest.MonkeyPatch, member: str) -> None:
    monkeypatch.setattr(Hits, member, lambda *_, **__: [])
    found = FastActions(PatientViewSet, {"get": "list"}, {}).obstacles["list"]
    assert f"Hits.{member}" in [obstacle.member for obstacle in found]


def test_middleware_sees_the_parameters_of_the_url_alone(as_alice: LoggedInClient, doctor: Doctor, both: Both) -> None:
    standard, fast = both(lambda: as_alice.post(SEARCH, {"search": "smith"}).wsgi_request.GET.dict())
    assert standard == fast == {}


def test_a_name_in_a_url_stays_in_no_cache(as_alice: LoggedInClient, doctor: Doctor) -> None:
    view: Any = resolve(LIST).func
    view = getattr(view, "views_by_method", {"get": view})["get"]
    parameters = view.fast_actions.by_method["GET"].plain_parameters
    before = parameters.cache_info().currsize
    for name in ("search", "se%61rch", "%73earch", "gender", "g%65nder"):
        as_alice.get(f"{LIST}?{name}=M")
    assert parameters.cache_info().currsize == before


MESSAGES = {
    "smith": 3,
    "john smith": 4,
    "zzyzx quux": 2,
}  # words, equal hits, similar hits where those are few, records


@pytest.mark.parametrize("by_post", [False, True])
@pytest.mark.parametrize("text", MESSAGES)
def test_a_search_sends_few_messages(as_alice: LoggedInClient, doctor: Doctor, text: str, by_post: bool) -> None:
    with CaptureQueriesContext(connection) as queries:
        if by_post:
            as_alice.post(SEARCH, {"search": text, "limit": 2})
        else:
            as_alice.get(f"{LIST}?limit=2&search={text}")
    messages = [query["sql"] for query in queries if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert len(messages) == MESSAGES[text], messages


def replacing(member: str, *, covered: bool = False) -> Any:
    """A subclass of the patients' viewset with a method of its own, which calls that of the viewset."""

    def method(view: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(kind, view), member)(*args, **kwargs)

    kind = type("Other", (PatientViewSet,), {member: covered_by_fast_path(method) if covered else method})
    return kind


@pytest.mark.parametrize("member", ["search", "read_body", "list", "paginate_queryset", "select_fields"])
def test_whoever_replaces_a_step_of_the_search_gets_standard_drf(member: str) -> None:
    actions = FastActions(replacing(member), {"post": "search"}, {})
    assert [obstacle.member for obstacle in actions.obstacles["search"]] == [f"Other.{member}"]
    assert not actions.by_method


@pytest.mark.parametrize("viewset", [PatientViewSet, replacing("list", covered=True)])
def test_a_viewset_whose_steps_are_covered_searches_on_the_fast_path(viewset: Any) -> None:
    assert {*FastActions(viewset, {"post": "search"}, {}).by_method} == {"POST"}


def test_a_search_by_get_is_not_the_action_of_a_post() -> None:
    assert [one.member for one in FastActions(PatientViewSet, {"get": "search"}, {}).obstacles["search"]] == [
        "PatientViewSet.as_view(get=search)"
    ]
