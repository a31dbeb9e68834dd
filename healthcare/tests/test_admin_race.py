"""Staff who add or change the same record concurrently, over real connections."""

import uuid
from contextlib import closing
from functools import partial
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import psycopg2
import pytest

from conftest import PASSWORD
from healthcare.tests.admin_pages import Page
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses, until_run
from healthcare.tests.live import Answer, LiveServer

PATIENTS = "/admin/patients/patient/"
FIELDS = {
    "name": "Ada", "phone": "1", "alternate_phone": "2", "email": "a@example.org", "address": "Mysuru",
    "language": "kn", "identifier": "A-17", "medical_history": "2019 asthma",
}  # fmt: skip


class Browser:
    """Sends the admin's forms with the cookies it was given."""

    def __init__(self, live: LiveServer, username: str) -> None:
        self.live, self.username = live, username
        self.cookies: SimpleCookie = SimpleCookie()
        self.store_cookies(live.call("GET", "/admin/login/"))
        answer = self.send("/admin/login/?next=/admin/", username=username, password=PASSWORD)
        assert answer.status == 302
        self.store_cookies(answer)

    def store_cookies(self, answer: Answer) -> None:
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            self.cookies.load(cookie)

    def open(self, path: str) -> Answer:
        return until_run(partial(self.live.call, "GET", path, Cookie=self.cookie_header()))

    def cookie_header(self) -> str:
        return "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())

    def send(self, path: str, **fields: Any) -> Answer:
        form = urlencode({**fields, "csrfmiddlewaretoken": self.cookies["csrftoken"].value}, doseq=True).encode()
        cookies = self.cookie_header()
        form_type = "application/x-www-form-urlencoded"
        headers = {"Cookie": cookies, "Content_Type": form_type, "Referer": self.live.url}
        return until_run(partial(self.live.call, "POST", path, form, **headers))


@pytest.fixture
def browser(live: LiveServer) -> Browser:
    return log_in_as_superuser(live)


def log_in_as_superuser(live: LiveServer) -> Browser:
    user, _ = live.register()
    with closing(psycopg2.connect(live.database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET is_staff = TRUE, is_superuser = TRUE WHERE id = %s", [user["id"]])
    return Browser(live, user["username"])


def test_of_eight_concurrent_equal_mappings_one_is_added_and_the_others_say_why(live: LiveServer, browser: Browser):
    _, tokens = live.register()
    for _ in range(5):
        patient = live.call("POST", "/api/patients/", {"name": "John"}, tokens["access"]).json["id"]
        doctor = live.call("POST", "/api/doctors/", {"name": "Dr. Rao"}, tokens["access"]).json["id"]
        form = {"patient": patient, "doctor": doctor, "started_at_0": "2026-01-01", "started_at_1": "00:00:00"}
        answers = call_concurrently(*[partial(browser.send, "/admin/mappings/mapping/add/", **form)] * 8)
        assert sorted_statuses(answers) == [200] * 7 + [302]
        refused = [answer.body.decode() for answer in answers if answer.status == 200]
        assert all("This doctor is already assigned to this patient." in page for page in refused)


def test_of_eight_concurrent_equal_users_one_is_added_and_the_others_say_why(browser: Browser):
    for _ in range(3):
        name = f"eve{uuid.uuid4().hex[:12]}"
        form = {"name": "Eve", "username": name, "email": f"{name}@example.org", "usable_password": "true"}
        form |= {"password1": PASSWORD, "password2": PASSWORD}
        answers = call_concurrently(*[partial(browser.send, "/admin/accounts/user/add/", **form)] * 8)
        assert sorted_statuses(answers) == [200] * 7 + [302]
        refused = [answer.body.decode() for answer in answers if answer.status == 200]
        assert all("A user with this e-mail already exists." in page for page in refused)


def test_a_doctor_is_never_deleted_while_being_assigned(live: LiveServer, browser: Browser):
    _, tokens = live.register()
    for _ in range(10):
        patient = live.call("POST", "/api/patients/", {"name": "John"}, tokens["access"]).json["id"]
        doctor = live.call("POST", "/api/doctors/", {"name": "Dr. Rao"}, tokens["access"]).json["id"]
        assign = partial(live.call, "POST", "/api/mappings/", {"patient": patient, "doctor": doctor}, tokens["access"])
        delete = partial(browser.send, f"/admin/doctors/doctor/{doctor}/delete/", post="yes")
        assigned, deleted = call_concurrently(assign, delete)
        # Either the assignment came first and the doctor stays, or the doctor went first and nobody is assigned.
        assert (assigned.status, deleted.status) in {(201, 200), (400, 302)}


def merged_pair(live: LiveServer) -> tuple[str, list[int]]:
    """The token of a new user, and the ids of two of the user's patients."""
    _, tokens = live.register()
    token: str = tokens["access"]
    return token, [live.call("POST", "/api/patients/", {"name": name}, token).json["id"] for name in ("Ana", "Anna")]


def test_of_concurrent_merges_of_the_same_patients_one_happens(live: LiveServer, browser: Browser):
    other = log_in_as_superuser(live)
    for _ in range(3):
        token, (one, two) = merged_pair(live)
        fields = {"_selected_action": [one, two], "survivor": one, "post": "yes"}
        sends = [partial(client.send, "/admin/patients/patient/merge/", **fields) for client in (browser, other)]
        answers = call_concurrently(*sends, *sends)
        assert sorted_statuses(answers) == [302] * 4
        assert live.call("GET", f"/api/patients/{two}/", token=token).status == 410
        unmerge = partial(live.call, "POST", f"/api/patients/{one}/unmerge/", {"duplicate": two}, token)
        assert [unmerge().status, unmerge().status] == [200, 400]


def test_of_two_opposite_merges_one_happens(live: LiveServer, browser: Browser):
    for _ in range(3):
        token, pair = merged_pair(live)
        fields = {"_selected_action": pair, "post": "yes"}
        sends = [partial(browser.send, "/admin/patients/patient/merge/", survivor=key, **fields) for key in pair]
        answers = call_concurrently(*sends)
        assert sorted_statuses(answers) == [200, 302]  # the second one shows why it cannot merge
        statuses = sorted(live.call("GET", f"/api/patients/{key}/", token=token).status for key in pair)
        assert statuses == [200, 410]


def test_an_assignment_that_two_restore_and_the_api_repeats_is_active_once(live: LiveServer, browser: Browser):
    for _ in range(3):
        token, (patient, _) = merged_pair(live)
        doctor = live.call("POST", "/api/doctors/", {"name": "Dr. Rao"}, token).json["id"]
        body = {"patient": patient, "doctor": doctor}
        mapping = live.call("POST", "/api/mappings/", body, token).json["id"]
        assert live.call("DELETE", f"/api/mappings/{mapping}/", token=token).status == 204
        restore = partial(browser.send, "/admin/mappings/mapping/restore/", _selected_action=[mapping], post="yes")
        answers = call_concurrently(restore, restore, partial(live.call, "POST", "/api/mappings/", body, token))
        assert [answer.status for answer in answers[:2]] == [302, 302]
        assert answers[2].status in {201, 400}
        assert len(live.call("GET", "/api/mappings/", token=token).json) == 1


def test_of_two_superusers_who_deactivate_each_other_one_stays(live: LiveServer):
    with closing(psycopg2.connect(live.database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for _ in range(3):
            pair = [log_in_as_superuser(live) for _ in range(2)]
            names = [browser.username for browser in pair]
            cursor.execute("SELECT username, id FROM accounts_user WHERE username = ANY(%s)", [names])
            ids = dict(cursor.fetchall())
            path = "/admin/accounts/user/deactivate/"
            call_concurrently(
                *(
                    partial(browser.send, path, _selected_action=[ids[other.username]], post="yes")
                    for browser, other in zip(pair, reversed(pair), strict=True)
                )
            )
            cursor.execute("SELECT count(*) FROM accounts_user WHERE username = ANY(%s) AND is_active", [names])
            assert cursor.fetchone() == (1,)


def form_of(browser: Browser, path: str) -> dict[str, Any]:
    """The fields of the form as the page has them; each call is another rendering of it."""
    page = browser.open(path)
    assert page.status == 200
    return {name: value for name, value in Page(page.body.decode()).fields.items() if "__prefix__" not in name}


def new_patient(live: LiveServer, **fields: Any) -> tuple[int, str]:
    """The path of a new patient's form, and the token of the owner."""
    _, tokens = live.register()
    answer = live.call("POST", "/api/patients/", {"name": "John", **fields}, tokens["access"])
    return answer.json["id"], tokens["access"]


def test_of_eight_concurrent_changes_of_one_field_one_is_saved_and_seven_show_the_clash(
    live: LiveServer, browser: Browser
):
    for _ in range(2):
        patient, token = new_patient(live, phone="111")
        path = f"{PATIENTS}{patient}/change/"
        forms = [form_of(browser, path) | {"phone": str(number)} for number in range(200, 208)]
        answers = call_concurrently(*[partial(browser.send, path, **form) for form in forms])
        assert sorted_statuses(answers) == [200] * 7 + [302]
        refused = [answer.body.decode() for answer in answers if answer.status == 200]
        assert all('<input type="hidden" name="clashing" value="phone">' in page for page in refused)
        [saved] = [form["phone"] for form, answer in zip(forms, answers, strict=True) if answer.status == 302]
        record = live.call("GET", f"/api/patients/{patient}/", token=token).json
        assert (record["phone"], record["version"]) == (saved, 2)


def test_of_eight_concurrent_changes_of_eight_fields_all_are_saved(live: LiveServer, browser: Browser):
    for _ in range(2):
        patient, token = new_patient(live)
        path = f"{PATIENTS}{patient}/change/"
        forms = [form_of(browser, path) | {name: value} for name, value in FIELDS.items()]
        answers = call_concurrently(*[partial(browser.send, path, **form) for form in forms])
        assert sorted_statuses(answers) == [302] * 8
        record = live.call("GET", f"/api/patients/{patient}/", token=token).json
        assert {name: record[name] for name in FIELDS} == FIELDS
        assert record["version"] == 9


def test_a_form_and_the_api_that_change_one_field_at_once_never_lose_a_change(live: LiveServer, browser: Browser):
    for _ in range(4):
        patient, token = new_patient(live, phone="111")
        path = f"{PATIENTS}{patient}/change/"
        form = form_of(browser, path) | {"phone": "222"}
        patch = partial(live.call, "PATCH", f"/api/patients/{patient}/", {"phone": "333"}, token)
        sent, patched = call_concurrently(partial(browser.send, path, **form), patch)
        record = live.call("GET", f"/api/patients/{patient}/", token=token).json
        # Either the form came first and the API changed its value, or the API came first and the form was refused.
        assert (sent.status, patched.status, record["phone"]) in {(302, 200, "333"), (200, 200, "333")}


def test_a_form_that_is_sent_eight_times_at_once_adds_one_patient(live: LiveServer, browser: Browser):
    user, tokens = live.register()
    owner = user["id"]
    form = form_of(browser, f"{PATIENTS}add/") | {"name": "Ada", "created_by": owner}
    answers = call_concurrently(*[partial(browser.send, f"{PATIENTS}add/", **form)] * 8)
    assert sorted_statuses(answers) == [302] * 8
    assert len(live.call("GET", "/api/patients/", token=tokens["access"]).json) == 1


def test_an_owner_who_is_deactivated_meanwhile_gets_no_patient_afterwards(live: LiveServer, browser: Browser):
    for _ in range(3):
        user, tokens = live.register()
        owner, page = user["id"], f"/admin/accounts/user/{user['id']}/change/"
        off = {name: value for name, value in form_of(browser, page).items() if name != "is_active"}
        form = form_of(browser, f"{PATIENTS}add/") | {"name": "Ada", "created_by": owner}
        added, deactivated = call_concurrently(
            partial(browser.send, f"{PATIENTS}add/", **form), partial(browser.send, page, **off)
        )
        assert (added.status, deactivated.status) in {(302, 302), (200, 302)}
        if added.status == 200:
            assert "Choose the username of an active user who is not staff." in added.body.decode()


def test_of_eight_concurrent_assignments_of_one_doctor_on_the_patients_form_one_is_saved(
    live: LiveServer, browser: Browser
):
    patient, token = new_patient(live)
    doctor = live.call("POST", "/api/doctors/", {"name": "Dr. Rao"}, token).json["id"]
    path = f"{PATIENTS}{patient}/change/"
    forms = [form_of(browser, path) | {"mappings-0-doctor": doctor} for _ in range(7)]
    by_api = partial(live.call, "POST", "/api/mappings/", {"patient": patient, "doctor": doctor}, token)
    answers = call_concurrently(by_api, *[partial(browser.send, path, **form) for form in forms])
    assert sorted(answer.status in {201, 302} for answer in answers) == [False] * 7 + [True]
    refused = [answer.body.decode() for answer in answers[1:] if answer.status == 200]
    assert all("This doctor is already assigned to this patient." in page for page in refused)
    assert len(live.call("GET", f"/api/patients/{patient}/doctors/", token=token).json) == 1
