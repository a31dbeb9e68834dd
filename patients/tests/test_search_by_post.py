"""POST /api/patients/search/: the list with its parameters in the body; and no cursor or link tells a name."""

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from healthcare.api.cursors import Cursor, decode_cursor
from patients.models import Patient
from patients.tests.factories import make_patient

SEARCH = "/api/patients/search/"


@pytest.fixture
def three(alice: User, bob: User) -> list[Patient]:
    make_patient(bob, name="Asha Nair")
    return [make_patient(alice, name=name, identifier=name[0]) for name in ("Asha Nair", "Asha Rao", "Bela Nair")]


def next_link(answer: Any) -> str:
    return str(answer.headers["Link"].split(">")[0].strip("<"))


@pytest.mark.parametrize(
    ("body", "query"),
    [
        ({}, ""),
        ({"search": "asha"}, "search=asha"),
        ({"identifier": "B"}, "identifier=B"),
        ({"ordering": "name", "fields": "id,name", "limit": 2}, "ordering=name&fields=id,name&limit=2"),
        ({"age_min": 30, "count": True, "gender": None}, "age_min=30&count=true"),
        ({"deleted": True}, "deleted=true"),
        ({"include": "doctors", "limit": "1"}, "include=doctors&limit=1"),
        ({"as_of": "2020-01-01T00:00:00Z"}, "as_of=2020-01-01T00:00:00Z"),
    ],
)
def test_it_answers_as_the_list(as_alice: LoggedInClient, three: Any, body: dict[str, Any], query: str) -> None:
    posted, listed = as_alice.post(SEARCH, body), as_alice.get(f"/api/patients/?{query}")
    assert (posted.status_code, posted.content) == (200, listed.content)
    assert posted.headers.get("X-Total-Count") == listed.headers.get("X-Total-Count")


@pytest.mark.parametrize("ordering", [None, "name", "-updated_at"])
@pytest.mark.parametrize("in_the_body", [True, False])
def test_pages_are_walked_with_the_same_body(
    as_alice: LoggedInClient, three: list[Patient], ordering: str | None, in_the_body: bool
) -> None:
    body: dict[str, Any] = {"limit": 1, "search": None, "ordering": ordering}
    answer, seen = as_alice.post(SEARCH, body), []
    while True:
        seen += [row["id"] for row in answer.json()]
        if 'rel="next"' not in answer.headers.get("Link", ""):
            break
        link = urlsplit(next_link(answer))
        assert (link.path, {*parse_qs(link.query)}) == (SEARCH, {"cursor"})
        cursor = parse_qs(link.query)["cursor"][0]
        answer = (
            as_alice.post(SEARCH, {**body, "cursor": cursor})
            if in_the_body
            else as_alice.post(f"{SEARCH}?cursor={cursor}", body)
        )
    assert sorted(seen) == sorted(patient.pk for patient in three)


def test_the_link_repeats_no_search_text(as_alice: LoggedInClient, three: Any) -> None:
    answer = as_alice.post(SEARCH, {"search": "nair", "limit": 1})
    assert "nair" not in answer.headers["Link"].lower()
    following = as_alice.post(
        SEARCH,
        {"search": "nair", "limit": 1, "cursor": parse_qs(next_link(answer))[f"http://testserver{SEARCH}?cursor"][0]},
    )
    assert {row["name"] for row in answer.json() + following.json()} == {"Asha Nair", "Bela Nair"}


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"serach": "x"}, "/serach", "unknown"),
        ({"name": "x"}, "", "unknown"),
        ({"search": ["x"]}, "/search", "invalid"),
        ({"search": {"x": 1}}, "/search", "invalid"),
        ({"limit": 0}, "/limit", "invalid"),
        ({"gender": "X"}, "/gender", "invalid_choice"),
        ({"search": "x", "ordering": "name"}, "/ordering", "invalid"),
        ({"cursor": "x"}, "/cursor", "invalid"),
    ],
)
def test_a_wrong_parameter_is_a_400(as_alice: LoggedInClient, body: Any, pointer: str, code: str) -> None:
    (error,) = as_alice.post(SEARCH, body).json()["errors"]
    assert error["code"] == code
    assert error["pointer"] == (pointer or "/name")


def test_a_parameter_in_body_and_url_is_a_400(as_alice: LoggedInClient) -> None:
    assert as_alice.post(f"{SEARCH}?limit=1", {"limit": 1}).status_code == 400


def test_lenient_handling_ignores_an_unknown_parameter(as_alice: LoggedInClient, three: Any) -> None:
    answer = as_alice.post(SEARCH, {"serach": "x"}, HTTP_PREFER="handling=lenient")
    assert (answer.status_code, len(answer.json())) == (200, 3)


def test_a_search_is_recorded_as_a_list_is(as_alice: LoggedInClient, three: list[Patient]) -> None:
    as_alice.post(SEARCH, {"search": "rao"})
    row = AccessLog.objects.latest("pk")
    assert (row.action, list(row.patient_ids), row.outcome) == ("patient.list", [three[1].pk], 200)


def test_it_takes_no_idempotency_key(as_alice: LoggedInClient, three: Any) -> None:
    for search, found in (("rao", 1), ("nair", 2)):
        answer = as_alice.post(SEARCH, {"search": search}, HTTP_IDEMPOTENCY_KEY="k")
        assert (len(answer.json()), "Idempotency-Replayed" in answer.headers) == (found, False)


@pytest.mark.parametrize("search", ["", "&ordering=-name"])
def test_no_cursor_tells_a_name(as_alice: LoggedInClient, three: Any, search: str) -> None:
    answer = as_alice.get(f"/api/patients/?limit=1&ordering=name{search[:0]}")
    cursor = parse_qs(urlsplit(next_link(answer)).query)["cursor"][0]
    decoded = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert b"Asha" not in decoded
    assert b"Asha" not in cursor.encode()


@pytest.mark.parametrize("text", ["W2ZhbHNlLDUsNV0", "WzEsMl0", "", "=", "é", "A" * 10_000])
@pytest.mark.parametrize("query", ["", "&ordering=created_at", "&search=x", "&ordering=name"])
def test_a_made_up_cursor_is_a_400(as_alice: LoggedInClient, text: str, query: str) -> None:
    answer = as_alice.get(f"/api/patients/?cursor={text}{query}")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/cursor"]


def test_a_changed_cursor_is_a_400(as_alice: LoggedInClient, three: Any) -> None:
    cursor = Cursor((3,), False).text()
    assert decode_cursor(cursor) == [False, 3]
    for position, character in enumerate(cursor):
        changed = cursor[:position] + ("A" if character != "A" else "B") + cursor[position + 1 :]
        if decode_cursor(changed) is not None:  # the unused bits of the last character
            assert decode_cursor(changed) == [False, 3]


def test_the_cursor_of_another_list_is_a_400(as_alice: LoggedInClient, three: Any) -> None:
    cursor = parse_qs(urlsplit(next_link(as_alice.get("/api/patients/?limit=1&ordering=name"))).query)["cursor"][0]
    assert as_alice.get(f"/api/patients/?cursor={cursor}").status_code == 400
    assert as_alice.get(f"/api/patients/?cursor={cursor}&ordering=created_at").status_code == 400
