"""Staff who add the same record concurrently, over real connections."""

import subprocess
import sys
import uuid
from contextlib import closing
from functools import partial
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import psycopg2
import pytest
from django.conf import settings

from conftest import PASSWORD
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import Answer, LiveServer


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

    def send(self, path: str, **fields: Any) -> Answer:
        form = urlencode({"csrfmiddlewaretoken": self.cookies["csrftoken"].value, **fields}, doseq=True).encode()
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        form_type = "application/x-www-form-urlencoded"
        return self.live.call("POST", path, form, Cookie=cookies, Content_Type=form_type, Referer=self.live.url)


@pytest.fixture
def browser(live: LiveServer) -> Browser:
    return log_in_as_superuser(live)


def log_in_as_superuser(live: LiveServer) -> Browser:
    name = f"staff{uuid.uuid4().hex[:12]}"
    account = ["--username", name, "--email", f"{name}@example.org", "--name", "Staff"]
    command = [sys.executable, "-m", "django", "createsuperuser", "--noinput", *account]
    environment = {**live.environment, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    subprocess.run(command, check=True, cwd=settings.BASE_DIR, env=environment, stdout=subprocess.DEVNULL)
    return Browser(live, name)


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
        assert sorted_statuses(answers) == [200, 302]  # the other one is told that its patient was merged
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
