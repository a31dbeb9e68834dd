"""The readable page of a person's file."""

import io
from html.parser import HTMLParser

import pytest

from accounts.models import User
from conftest import LoggedInClient
from patients.models import Patient
from patients.person_file import writer
from patients.person_file.tests.reading import parsed, read_file
from patients.person_file.writer import as_lines, write_person_file
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db
HOSTILE = '</td></style><script>alert(1)</script><img src=x onerror="alert(1)">&lt;b&gt; {{ about }} {% csrf_token %}'


class Outline(HTMLParser):
    """The elements of a page, those that are left open, and its texts."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_values_are_shown_and_are_no_markup(as_alice: LoggedInClient, alice: User):
    quiet = Outline(read_file(as_alice, make_patient(alice, name="Ana", address="x", medical_history="y"))["index"])
    texts = {"name": HOSTILE, "address": HOSTILE, "medical_history": f"{HOSTILE}"}
    patient = make_patient(alice, **texts, contacts=[{"name": HOSTILE, "relationship": HOSTILE[:100], "phone": ""}])
    outline = Outline(read_file(as_alice, patient)["index"])
    assert outline.open == []
    assert {*outline.tags} == {*quiet.tags}
    assert outline.attributes == quiet.attributes
    assert HOSTILE in outline.text


def test_every_table_has_a_caption_and_headings(as_alice: LoggedInClient, alice: User):
    patient = make_patient(alice, name="Ana")
    as_alice.get(f"/api/patients/{patient.pk}/")
    tags = Outline(read_file(as_alice, patient)["index"]).tags
    assert tags.count("table") == tags.count("caption") == 3
    assert tags.count("h1") == 1
    assert "th" in tags
    assert "script" not in tags


def test_the_page_shows_the_first_rows_of_a_long_list_and_the_json_all(
    as_alice: LoggedInClient, alice: User, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "MOST_ROWS_ON_PAGE", 3)
    patient = make_patient(alice)
    for number in range(5):
        as_alice.patch(f"/api/patients/{patient.pk}/", {"address": f"Street {number}"})
    found = read_file(as_alice, patient)
    assert len(found["history"]["changes"]) == 6
    assert "The first 3 of 6 rows" in found["index"]
    assert found["index"].count("Street 4") > 0 == found["index"].count("Street 0")


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (None, []), ("", []), ([], []), ("a\nb", ["a", "b"]), (True, ["yes"]), (0, ["0"]),
        ({"phone": ["", "1"]}, ["phone: (empty) → 1"]), ({"contacts": [[], [{"name": "M", "phone": ""}]]},
        ["contacts: (empty) → name M"]), ([{"system": "s", "value": "v"}], ["system s, value v"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_in_words(value: object, lines: list[str]):
    assert as_lines(value) == lines


def test_two_files_of_the_same_state_differ_in_their_time_alone(alice: User):
    patient = Patient.objects.get(pk=make_patient(alice).pk)
    files = []
    for _ in range(2):
        content = io.BytesIO()
        write_person_file(content, patient)
        found = parsed(content.getvalue())
        written_at = found["manifest"].pop("written_at")
        found["index"] = found["index"].replace(written_at, "")
        del found["manifest"]["parts"]
        files.append(found)
    assert files[0] == files[1]
