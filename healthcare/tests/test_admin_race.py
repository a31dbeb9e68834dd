"""Staff who add the same record concurrently, over real connections."""

import subprocess
import sys
import uuid
from functools import partial
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import settings

from conftest import PASSWORD
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.live import Answer, LiveServer


class Browser:
    """Sends the admin's forms with the cookies it was given."""

    def __init__(self, live: LiveServer, username: str) -> None:
        self.live = live
        self.cookies: SimpleCookie = SimpleCookie()
        self.store_cookies(live.call("GET", "/admin/login/"))
        answer = self.send("/admin/login/?next=/admin/", username=username, password=PASSWORD)
        assert answer.status == 302
        self.store_cookies(answer)

    def store_cookies(self, answer: Answer) -> None:
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            self.cookies.load(cookie)

    def send(self, path: str, **fields: Any) -> Answer:
        form = urlencode({"csrfmiddlewaretoken": self.cookies["csrftoken"].value, **fields}).encode()
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        form_type = "application/x-www-form-urlencoded"
        return self.live.call("POST", path, form, Cookie=cookies, Content_Type=form_type, Referer=self.live.url)


@pytest.fixture
def browser(live: LiveServer) -> Browser:
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
