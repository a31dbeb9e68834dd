"""What the pages of the admin share: titles, times in the local zone, and the pages for errors."""

import datetime
import re
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from healthcare.tests.admin_pages import AdminClient, main
from healthcare.tests.declarations import AdminModel, all_admin_models
from healthcare.tests.test_admin_site import admin_paths, log_in
from patients.models import Patient
from patients.tests.factories import make_patient

NAME = "Quetzalina Doe"
TIME = re.compile(r"\d{1,2}:\d\d(?::\d\d)?\b(?![:\d])(.{0,7})", re.DOTALL)
ZONES = {"UTC": "UTC", "Asia/Kolkata": "IST", "Europe/Berlin": "CES?T", "Asia/Dubai": r"\+04"}


@pytest.fixture
def records(alice: User) -> list[tuple[AdminModel, Any]]:
    return [(model, model.create(alice)) for model in all_admin_models()]


def pages_of(client: AdminClient, model: AdminModel, record: Any) -> dict[str, str]:
    """Every page of the model that this client can read, by its path."""
    pages = {}
    for path in admin_paths():
        if path.startswith(model.path):
            path = path.replace("/1/", f"/{record.pk}/")
            answer = client.get(path)
            if answer.status_code == 200 and answer["Content-Type"].startswith("text/html"):
                pages[path] = answer.content.decode()
    return pages


def title_of(page: str) -> str:
    [title] = re.findall(r"<title>(.*?)</title>", page, re.DOTALL)
    return str(title).strip()


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_every_time_names_its_zone(
    staff: User, alice: User, records: list[tuple[AdminModel, Any]], settings: Any, zone: str
) -> None:
    settings.TIME_ZONE = zone
    User.objects.filter(pk=alice.pk).update(last_login=datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC))
    client, found = AdminClient(staff), 0
    for model, record in records:
        for path, page in pages_of(client, model, record).items():
            text = re.sub(r"<[^>]*>", " ", main(page))
            for following in TIME.findall(text):
                assert re.match(rf"\s+(?:{ZONES[zone]})\b", following), (path, following)
                found += 1
            assert not re.search(r"\b[ap]\.m\.", text), path  # Django's own format
    assert found > 10


def test_a_time_is_shown_as_the_clocks_of_its_day_show_it(staff: User, alice: User, settings: Any) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    summer, winter = (datetime.datetime(2026, month, 1, 12, tzinfo=datetime.UTC) for month in (7, 1))
    User.objects.filter(pk=alice.pk).update(last_login=summer, created_at=winter)
    page = AdminClient(staff).page(f"/admin/accounts/user/{alice.pk}/change/")
    assert "1 Jul 2026, 14:00 CEST" in page
    assert "1 Jan 2026, 13:00 CET" in page


def test_a_field_for_a_time_names_the_zone_and_labels_both_parts(staff: User, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    page = AdminClient(staff).page("/admin/mappings/mapping/add/")
    assert '<span class="time-zone">Asia/Kolkata</span>' in page
    for name in ("started_at_0", "started_at_1"):
        assert f'<label for="id_{name}">' in page


def test_titles_distinguish_the_pages_and_name_no_person(staff: User, alice: User) -> None:
    patient = make_patient(alice, name=NAME)
    client, titles = AdminClient(staff), []
    for model in all_admin_models():
        record = patient if model.label == "patients.Patient" else model.create(alice)
        Patient.objects.update(name=NAME)
        pages = pages_of(client, model, record)
        for path, page in pages.items():
            title = title_of(page)
            assert title.endswith(" | Healthcare admin"), path
            assert not re.search(f"{NAME}|{alice.name}|{alice.username}", title), path
            titles.append(title)
    assert sorted(titles) == sorted(set(titles))
    assert f"Change patient {patient.pk} | Healthcare admin" in titles
    assert f"History of patient {patient.pk} | Healthcare admin" in titles


@pytest.mark.parametrize(
    ("path", "status", "heading"),
    [
        ("/admin/nothing/", 404, "There is no such page"),
        ("/admin/accounts/attempts/add/", 403, "Your account may not do this"),
    ],
)
def test_an_error_page_says_what_to_do_within_the_admins_frame(
    staff: User, path: str, status: int, heading: str
) -> None:
    answer = AdminClient(staff).get(path)
    assert answer.status_code == status
    page = answer.content.decode()
    assert f"<h1>{heading}</h1>" in page
    assert 'id="logout-form"' in page
    assert 'name="csrfmiddlewaretoken"' in page


def test_a_refused_selection_is_an_error_page(staff: User) -> None:
    sent = {"action": "delete_selected", "_selected_action": ["x"], "index": "0"}
    answer = AdminClient(staff).post("/admin/patients/patient/", sent)
    assert answer.status_code == 400
    assert "<h1>This request cannot be carried out</h1>" in answer.content.decode()


def test_a_form_without_its_token_says_that_nothing_was_saved(staff: User) -> None:
    answer = log_in(Client(enforce_csrf_checks=True), "staff")
    assert answer.status_code == 403
    assert "Nothing was saved." in answer.content.decode()


def test_outside_the_admin_errors_stay_problems(anonymous: Any) -> None:
    for path in ("/nothing/", "/api/nothing/"):
        answer = anonymous.get(path)
        assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json"), path
