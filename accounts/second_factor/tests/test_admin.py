"""The second factor in the admin: logging in with a code, enrolling, giving a code later, and removing the factor.

Rita is a member of staff. The clock is set by the tests.
"""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client

from accounts.admin_second_factor import SecondFactorPage
from accounts.limits import FREE_FAILURES_BY_PAIR, SessionAttempt
from accounts.models import Attempts, User
from accounts.second_factor.models import RecoveryCode, SecondFactor
from accounts.second_factor.rules import FACTOR_REMOVED, begin_factor, remove_factor
from accounts.second_factor.tests.conftest import App, Clock
from conftest import PASSWORD
from healthcare.tests.admin_pages import AdminClient, Page, in_role, main
from healthcare.tests.test_admin_roles import patterns

LOGIN, INDEX, PAGE, LOGOUT = "/admin/login/", "/admin/", "/admin/second_factor/", "/admin/logout/"
PATIENTS = "/admin/patients/patient/"
COOKIE = settings.SESSION_COOKIE_NAME
WRONG_LOGIN = "Please enter the correct username and password for a staff account."
Enrol = Callable[[User], App]


@pytest.fixture
def rita(make_user: Callable[..., User]) -> User:
    return in_role(make_user("rita", is_staff=True), "Front desk")


@pytest.fixture
def required(settings: Any) -> None:
    settings.ADMIN_OTP = "required"


def log_in(client: Client, otp: str | None = None, password: str = PASSWORD, username: str = "rita") -> Any:
    sent = {"username": username, "password": password, "next": PATIENTS}
    return client.post(LOGIN, sent if otp is None else {**sent, "otp": otp})


def text_of(answer: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", main(answer.content.decode()))).split())


def is_in(client: Client) -> bool:
    return client.get(PATIENTS).status_code == 200


def leads_to_the_page(answer: Any) -> bool:
    return bool(answer.status_code == 302 and answer["Location"].partition("?")[0] == PAGE)


def begin(client: Client, clock: Clock, password: str = PASSWORD) -> App:
    """Enter the password, and scan the secret that the page shows."""
    answer = client.post(PAGE, {"step": "begin", "password": password})
    assert answer.status_code == 200
    [secret] = re.findall(r'class="otp-secret">([A-Z2-7 ]+)<', answer.content.decode())
    return App(clock, secret.replace(" ", ""))


def recovery_codes_of(answer: Any) -> list[str]:
    return re.findall(r"<li><code>([A-Z2-7-]+)</code></li>", answer.content.decode())


# Logging in


def test_who_has_none_logs_in_as_before(rita: User, clock: Clock):
    client = Client()
    answer = log_in(client)
    assert (answer.status_code, answer["Location"]) == (302, PATIENTS)
    assert is_in(client)


def test_who_has_one_needs_a_code(rita: User, enrol: Enrol):
    app, client = enrol(rita), Client()
    answer = log_in(client)
    assert answer.status_code == 200
    assert "Enter the code that your authenticator app shows now, or a recovery code." in text_of(answer)
    assert COOKIE not in client.cookies
    answer = log_in(client, app.code())
    assert (answer.status_code, answer["Location"]) == (302, PATIENTS)
    assert is_in(client)


def test_a_recovery_code_works_once_in_any_spelling(rita: User, enrol: Enrol):
    code = enrol(rita).recovery_codes[0]
    assert log_in(Client(), f" {code.lower().replace('-', ' ')} ").status_code == 302
    assert "This code is wrong or was used before." in text_of(log_in(Client(), code))


def test_a_code_works_once(rita: User, enrol: Enrol):
    app = enrol(rita)
    assert log_in(Client(), app.code()).status_code == 302
    assert "This code is wrong or was used before." in text_of(log_in(Client(), app.code()))


def test_a_wrong_password_tells_nothing_about_a_second_factor(rita: User, enrol: Enrol, make_user: Any):
    make_user("sam", is_staff=True)
    app = enrol(rita)
    bodies = set()
    for username, otp in (("rita", None), ("rita", app.code()), ("sam", None), ("sam", "123456"), ("nobody", "1")):
        answer = log_in(Client(), otp, "WrongPass123", username)
        assert answer.status_code == 200
        assert WRONG_LOGIN in text_of(answer)
        page = answer.content.decode().replace(f'value="{username}"', "")
        bodies.add(re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page))
    assert len(bodies) == 1
    assert log_in(Client(), app.code()).status_code == 302, "a wrong password leaves the code unused"


def test_wrong_codes_wait_like_wrong_passwords(rita: User, enrol: Enrol, settings: Any):
    app = enrol(rita)
    settings.THROTTLE_SCALE = 1
    for _ in range(FREE_FAILURES_BY_PAIR):
        assert log_in(Client(), app.wrong_code()).status_code == 200
    answer = log_in(Client(), app.code())
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert "Too many attempts." in text_of(answer)


def test_asking_for_the_code_does_not_count(rita: User, enrol: Enrol, settings: Any):
    app = enrol(rita)
    settings.THROTTLE_SCALE = 1
    for _ in range(FREE_FAILURES_BY_PAIR + 2):
        assert log_in(Client()).status_code == 200
    assert log_in(Client(), app.code()).status_code == 302


def test_no_code_reaches_the_log_or_the_page(rita: User, enrol: Enrol, caplog: pytest.LogCaptureFixture):
    app = enrol(rita)
    for code in (app.wrong_code(), app.code(), app.recovery_codes[0]):
        answer = log_in(Client(), code, "WrongPass123")
        log_in(Client(), code)
        assert code not in answer.content.decode()
        assert PASSWORD not in answer.content.decode()
        assert all(
            code not in str(record.__dict__) and PASSWORD not in str(record.__dict__) for record in caplog.records
        )


@pytest.mark.parametrize("otp", ["", " ", "-", "x" * 101, "\0", "१२३४५६", "12345", "1" * 7, "<script>"])
def test_no_text_as_a_code_breaks_the_login_or_opens_it(rita: User, enrol: Enrol, otp: str):
    enrol(rita)
    client = Client()
    assert log_in(client, otp).status_code == 200
    assert COOKIE not in client.cookies


# Sessions that were opened without a code


def test_a_session_from_before_the_factor_is_led_to_give_a_code(rita: User, enrol: Enrol):
    client = AdminClient(rita)
    assert is_in(client)
    app = enrol(rita)
    key = client.cookies[COOKIE].value
    answer = client.get(f"{PATIENTS}?state=deleted")
    assert (answer.status_code, answer["Location"]) == (
        302,
        f"{PAGE}?next=%2Fadmin%2Fpatients%2Fpatient%2F%3Fstate%3Ddeleted",
    )
    form = Page(client.page(answer["Location"])).fields
    assert form["step"] == "code"
    assert "This code is wrong" in text_of(client.post(PAGE, {**form, "otp": app.wrong_code()}))
    assert not is_in(client)
    answer = client.post(PAGE, {**form, "otp": app.code()})
    assert (answer.status_code, answer["Location"]) == (302, f"{PATIENTS}?state=deleted")
    assert is_in(client)
    assert not Session.objects.filter(pk=key).exists(), "the session has another key"


def test_a_session_that_gave_a_code_of_a_former_factor_gives_one_again(rita: User, enrol: Enrol):
    client = Client()
    log_in(client, enrol(rita).code())
    assert is_in(client)
    remove_factor(None, rita, FACTOR_REMOVED)
    assert is_in(client)
    enrol(rita)
    assert leads_to_the_page(client.get(PATIENTS))


def test_logging_in_again_with_a_code_is_enough(rita: User, enrol: Enrol):
    client = AdminClient(rita)
    app = enrol(rita)
    assert log_in(client, app.code()).status_code == 302
    assert is_in(client)


def test_the_code_of_another_user_opens_nothing(rita: User, enrol: Enrol, make_user: Any):
    client, other = AdminClient(rita), enrol(make_user("sam", is_staff=True))
    enrol(rita)
    for code in (other.code(), other.recovery_codes[0]):
        assert client.post(PAGE, {"step": "code", "otp": code}).status_code == 200
    assert not is_in(client)


def test_codes_given_to_the_page_count_as_logins(rita: User, enrol: Enrol, settings: Any):
    client, app = AdminClient(rita), enrol(rita)
    settings.THROTTLE_SCALE = 1
    for _ in range(FREE_FAILURES_BY_PAIR):
        assert client.post(PAGE, {"step": "code", "otp": app.wrong_code()}).status_code == 200
    for answer in (client.post(PAGE, {"step": "code", "otp": app.code()}), log_in(Client(), app.code())):
        assert answer.status_code == 429
        assert "Retry-After" in answer.headers
    assert not is_in(client)
    assert {"pair", "account"} <= {*Attempts.objects.values_list("kind", flat=True)}


@pytest.mark.django_db(transaction=True)
def test_a_code_stays_used_up_and_a_wrong_one_counted_if_the_request_fails(
    rita: User, enrol: Enrol, monkeypatch: pytest.MonkeyPatch
):
    def fail(page: SecondFactorPage, *_: Any) -> None:
        raise RuntimeError

    client, app = AdminClient(rita), enrol(rita)
    client.raise_request_exception = False
    monkeypatch.setattr(SecondFactorPage, "pass_second_factor", fail)
    assert client.post(PAGE, {"step": "code", "otp": app.recovery_codes[0]}).status_code == 500
    assert RecoveryCode.objects.count() == 9
    monkeypatch.setattr(SecondFactorPage, "show", fail)
    assert client.post(PAGE, {"step": "code", "otp": app.wrong_code()}).status_code == 500
    assert Attempts.objects.get(kind="pair").count == 1


def test_who_has_to_give_a_code_neither_removes_the_factor_nor_begins_another(rita: User, enrol: Enrol):
    client, app = AdminClient(rita), enrol(rita)
    for step in ("begin", "confirm", "remove"):
        assert leads_to_the_page(client.post(PAGE, {"step": step, "password": PASSWORD, "otp": app.code()}))
    assert SecondFactor.objects.confirmed().filter(pk=rita.pk).exists()
    assert not is_in(client)


# Required


def every_path() -> list[str]:
    """Every path of the admin but the three that lead in and out, with a key for each parameter."""
    paths = {re.sub(r"\{\w+\}", "1", path) for path, name in patterns() if name not in {"app_list", ""}}
    return sorted({*paths, "/admin/patients/", "/admin/nothing/"} - {LOGIN, LOGOUT, PAGE})


@pytest.mark.parametrize("state", ["has none", "has not given a code"])
def test_every_page_and_action_leads_to_the_page_until_then(
    required: None, staff: User, enrol: Enrol, alice: User, state: str
):
    client = AdminClient(staff)
    if state == "has not given a code":
        enrol(staff)
    paths = every_path()
    assert len(paths) > 60
    for path in paths:
        assert leads_to_the_page(client.get(path)), path
        assert leads_to_the_page(
            client.post(path, {"post": "yes", "action": "deactivate", "_selected_action": alice.pk})
        ), path
    assert client.get(LOGIN)["Location"] == INDEX
    page = client.page(PAGE)
    assert 'id="logout-form"' in page
    assert 'id="nav-sidebar"' not in page
    assert "/admin/password_change/" not in page
    assert PATIENTS not in page
    alice.refresh_from_db()
    assert alice.is_active
    assert client.post(LOGOUT).status_code == 200
    assert client.get(PAGE)["Location"].startswith(LOGIN)


def test_autocomplete_and_another_password_wait_too(required: None, staff: User):
    client = AdminClient(staff)
    query = "?app_label=mappings&model_name=mapping&field_name=patient&term=a"
    assert leads_to_the_page(client.get(f"/admin/autocomplete/{query}"))
    change = {"old_password": PASSWORD, "new_password1": "OtherPass456", "new_password2": "OtherPass456"}
    assert leads_to_the_page(client.post("/admin/password_change/", change))
    staff.refresh_from_db()
    assert staff.check_password(PASSWORD)


def test_error_pages_show_no_more_until_then(required: None, staff: User):
    client = AdminClient(staff)
    client.handler.enforce_csrf_checks = True
    answer = client.post(PATIENTS, {})
    assert answer.status_code == 403
    assert 'id="nav-sidebar"' not in answer.content.decode()


def test_who_has_none_logs_in_enrols_and_goes_on(required: None, rita: User, clock: Clock):
    client = Client()
    assert log_in(client).status_code == 302
    answer = client.get(PATIENTS)
    assert leads_to_the_page(answer)
    assert "This server requires it of all members of staff." in text_of(client.get(answer["Location"]))
    app = begin(client, clock)
    assert leads_to_the_page(client.get(PATIENTS)), "a factor that is not confirmed is none"
    answer = client.post(PAGE, {"step": "confirm", "otp": app.code(), "next": PATIENTS})
    codes = recovery_codes_of(answer)
    assert (answer.status_code, len(codes)) == (200, 10)
    assert f'<a href="{PATIENTS}">I have stored' in answer.content.decode()
    assert is_in(client)
    clock.pass_step()
    assert log_in(Client(), app.code()).status_code == 302
    assert log_in(Client(), codes[3]).status_code == 302


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_a_superuser_made_by_the_command_gets_in(
    db: None, settings: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, mode: str
):
    settings.ADMIN_OTP = mode
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    account = {"username": "rita", "email": "rita@example.org", "name": "Rita"}
    call_command("createsuperuser", interactive=False, verbosity=0, **account)
    client = Client()
    assert log_in(client).status_code == 302
    assert leads_to_the_page(client.get(PATIENTS)) == (mode == "required")
    app = begin(client, clock)
    assert client.post(PAGE, {"step": "confirm", "otp": app.code()}).status_code == 200
    assert is_in(client)


def test_a_session_from_before_required_is_led_to_enrol(rita: User, settings: Any):
    client = AdminClient(rita)
    assert is_in(client)
    settings.ADMIN_OTP = "required"
    assert leads_to_the_page(client.get(PATIENTS))


def test_a_factor_from_the_api_counts_in_the_admin(required: None, rita: User, enrol: Enrol):
    client = Client()
    assert log_in(client, enrol(rita).code()).status_code == 302
    assert is_in(client)


def test_visitors_and_users_without_staff_rights_are_led_to_the_login(required: None, alice: User):
    for client in (Client(), AdminClient(alice)):
        for method in (client.get, client.post):
            assert method(PAGE)["Location"].startswith(LOGIN)
        assert client.get(INDEX)["Location"] == f"{LOGIN}?next=/admin/"


# Enrolling


def test_enrolling_takes_the_password(rita: User, clock: Clock):
    client = AdminClient(rita)
    for password in ("WrongPass123", "", " "):
        answer = client.post(PAGE, {"step": "begin", "password": password})
        assert answer.status_code == 200
        assert "otp-secret" not in answer.content.decode()
    assert not SecondFactor.objects.exists()
    begin(client, clock)
    assert not SecondFactor.objects.confirmed().exists()


def test_wrong_passwords_on_the_page_wait(rita: User, settings: Any):
    client = AdminClient(rita)
    settings.THROTTLE_SCALE = 1
    for _ in range(FREE_FAILURES_BY_PAIR):
        client.post(PAGE, {"step": "begin", "password": "WrongPass123"})
    answer = client.post(PAGE, {"step": "begin", "password": PASSWORD})
    assert (answer.status_code, "Retry-After" in answer.headers) == (429, True)
    assert "Too many attempts." in text_of(answer)
    assert not SecondFactor.objects.exists()


def test_another_password_meanwhile_enrols_nothing(rita: User, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """As when the owner changes a stolen password while the thief sets up a factor."""
    client = AdminClient(rita)
    succeed = SessionAttempt.succeed

    def change_password(attempt: SessionAttempt) -> None:
        succeed(attempt)
        User.objects.filter(pk=rita.pk).update(password="!another")

    monkeypatch.setattr(SessionAttempt, "succeed", change_password)
    assert leads_to_the_page(client.post(PAGE, {"step": "begin", "password": PASSWORD}))
    assert not SecondFactor.objects.exists()
    assert client.get(PAGE)["Location"].startswith(LOGIN)


def test_a_wrong_first_code_shows_the_secret_again_and_confirms_nothing(rita: User, clock: Clock):
    client = AdminClient(rita)
    app = begin(client, clock)
    answer = client.post(PAGE, {"step": "confirm", "otp": app.wrong_code()})
    page = answer.content.decode()
    assert "This code is wrong." in text_of(answer)
    assert "<svg" in page
    assert not recovery_codes_of(answer)
    assert not SecondFactor.objects.confirmed().exists()
    assert len(recovery_codes_of(client.post(PAGE, {"step": "confirm", "otp": app.code()}))) == 10


def test_the_page_holds_a_picture_that_the_policy_allows(rita: User, clock: Clock):
    answer = AdminClient(rita).post(PAGE, {"step": "begin", "password": PASSWORD})
    page = answer.content.decode()
    assert Page(page).blocked == []
    assert re.search(r'<div class="qr-code" role="img" aria-label="[^"]+"><svg [^>]*viewBox="[\d ]+"', page)
    assert "otpauth://" not in page, "the picture alone"
    assert "no-store" in answer["Cache-Control"]


def test_another_session_neither_sees_the_secret_nor_confirms(rita: User, clock: Clock):
    app, other = begin(AdminClient(rita), clock), AdminClient(rita)
    for answer in (
        other.get(PAGE),
        other.post(PAGE, {"step": "confirm", "otp": app.wrong_code()}),
        other.post(PAGE, {"step": "confirm", "otp": app.code()}),
    ):
        assert "otp-secret" not in answer.content.decode()
    assert not SecondFactor.objects.confirmed().exists()


def test_a_factor_begun_elsewhere_since_is_not_shown(rita: User, clock: Clock):
    client = AdminClient(rita)
    begin(client, clock)
    begin_factor(rita)
    assert leads_to_the_page(client.post(PAGE, {"step": "confirm", "otp": "123456"}))


def test_recovery_codes_are_shown_once(rita: User, clock: Clock):
    client = AdminClient(rita)
    app = begin(client, clock)
    sent = {"step": "confirm", "otp": app.code()}
    codes = recovery_codes_of(client.post(PAGE, sent))
    assert len({*codes}) == RecoveryCode.objects.count() == 10
    assert leads_to_the_page(client.post(PAGE, sent)), "the answer reloaded"
    page = client.page(PAGE)
    assert not any(code in page for code in codes)
    assert not any(code in str(client.session.items()) for code in [*codes, app.code()])


def test_enrolling_is_offered_in_the_menu_of_the_user(rita: User):
    assert f'<a href="{PAGE}">Second factor</a>' in AdminClient(rita).page(INDEX)


# Removing


def test_password_and_code_remove_the_factor(rita: User, enrol: Enrol):
    app, client = enrol(rita), Client()
    log_in(client, app.code())
    app.clock.pass_step()
    assert "Recovery codes that are left: 10." in text_of(client.get(PAGE))
    for password, otp in ((PASSWORD, ""), (PASSWORD, app.wrong_code()), ("WrongPass123", app.code()), ("", app.code())):
        assert client.post(PAGE, {"step": "remove", "password": password, "otp": otp}).status_code == 200
    assert SecondFactor.objects.confirmed().exists()
    answer = client.post(PAGE, {"step": "remove", "password": PASSWORD, "otp": app.code()}, follow=True)
    assert "The second factor was removed. Logins ask for the password alone." in text_of(answer)
    assert not SecondFactor.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert is_in(client)
    assert log_in(Client()).status_code == 302


def test_no_right_password_clears_the_wrong_codes_that_were_sent_to_remove_it(rita: User, enrol: Enrol, settings: Any):
    app, client = enrol(rita), Client()
    log_in(client, app.code())
    app.clock.pass_step()
    settings.THROTTLE_SCALE = 1
    sent = {"step": "remove", "password": PASSWORD}
    for _ in range(FREE_FAILURES_BY_PAIR):
        assert client.post(PAGE, {**sent, "otp": app.wrong_code()}).status_code == 200
        changed = {"old_password": PASSWORD, "new_password1": PASSWORD, "new_password2": PASSWORD}
        assert client.post("/admin/password_change/", changed).status_code == 302  # another key of the session, too
    assert client.post(PAGE, {**sent, "otp": app.code()}).status_code == 429
    assert SecondFactor.objects.confirmed().exists()


def test_who_removes_a_required_factor_enrols_again_first(required: None, rita: User, enrol: Enrol):
    app, client = enrol(rita), Client()
    log_in(client, app.code())
    client.post(PAGE, {"step": "remove", "password": PASSWORD, "otp": app.recovery_codes[0]})
    assert not SecondFactor.objects.exists()
    assert leads_to_the_page(client.get(PATIENTS))


@pytest.mark.parametrize("step", ["", "nonsense", "show", "page", "\0"])
def test_an_unknown_step_is_refused(rita: User, step: str):
    assert AdminClient(rita).post(PAGE, {"step": step, "password": PASSWORD}).status_code == 400


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example/", "/\\evil.example/", "javascript:alert(1)"]
)
def test_the_page_leads_to_no_other_host(rita: User, enrol: Enrol, elsewhere: str):
    client, app = AdminClient(rita), enrol(rita)
    assert "evil" not in client.get(PAGE, {"next": elsewhere}).content.decode()
    answer = client.post(PAGE, {"step": "code", "otp": app.code(), "next": elsewhere})
    assert (answer.status_code, answer["Location"]) == (302, INDEX)
