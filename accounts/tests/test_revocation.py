"""A live server refuses the next request with the tokens of a session that was revoked, however that happened."""

import http.cookiejar
import re
import subprocess
import sys
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable

import pytest
from django.conf import settings

from conftest import PASSWORD
from healthcare.tests.live import LiveServer

Tokens = dict[str, str]
Shell = Callable[[str], None]


def works(live: LiveServer, tokens: Tokens) -> bool:
    """Whether the access and the refresh token work, both or neither."""
    used = live.call("GET", "/api/auth/me/", token=tokens["access"]).status
    refreshed = live.call("POST", "/api/auth/refresh/", {"refresh": tokens["refresh"]}).status
    assert (used, refreshed) in {(200, 200), (401, 401)}
    return used == 200


def login(live: LiveServer, username: str, password: str = PASSWORD) -> Tokens:
    answer = live.call("POST", "/api/auth/login/", {"username": username, "password": password})
    assert answer.status == 200, answer.body
    tokens: Tokens = answer.json
    return tokens


def test_tokens_work_until_something_ends_them(live: LiveServer):
    assert works(live, live.register()[1])


def test_a_logout_ends_its_tokens(live: LiveServer):
    user, tokens = live.register()
    other = login(live, user["username"])
    assert live.call("POST", "/api/auth/logout/", token=tokens["access"]).status == 204
    assert not works(live, tokens)
    assert works(live, other)


def test_deleting_a_session_ends_its_tokens(live: LiveServer):
    user, tokens = live.register()
    other = login(live, user["username"])
    [mine] = [
        row["id"] for row in live.call("GET", "/api/auth/sessions/", token=tokens["access"]).json if row["current"]
    ]
    body = {"current_password": PASSWORD}
    assert live.call("DELETE", f"/api/auth/sessions/{mine}/", body, other["access"]).status == 204
    assert not works(live, tokens)
    assert works(live, other)


def test_a_new_password_by_another_session_ends_the_tokens(live: LiveServer):
    user, tokens = live.register()
    other = login(live, user["username"])
    body = {"current_password": PASSWORD, "new_password": "Kf7-twelve"}
    assert live.call("POST", "/api/auth/password/", body, other["access"]).status == 204
    assert not works(live, tokens)
    assert works(live, other)


@pytest.mark.parametrize(
    "change",
    [
        "user.set_password('Kf7-twelve'); user.save()",
        "user.set_password('Kf7-twelve'); user.save(update_fields=['password'])",
        "user.set_unusable_password(); user.save()",
        "user.is_active = False; user.save()",
        "User.objects.filter(pk=user.pk).update(is_active=False)",
        "User.objects.filter(pk=user.pk).update(password='!')",
        "user.is_active = False; User.objects.bulk_update([user], ['is_active'])",
        "user.sessions.all().revoke()",
        "user.delete()",
    ],
)
def test_a_change_of_the_user_ends_all_tokens(live: LiveServer, shell: Shell, change: str):
    user, tokens = live.register()
    _, others = live.register()
    shell(f"user = User.objects.get(pk={user['id']}); {change}")
    assert not works(live, tokens)
    assert works(live, others)


@pytest.mark.parametrize(
    ("off", "on"),
    [
        ("user.is_active = False; user.save()", "user.is_active = True; user.save()"),
        (
            "User.objects.filter(is_active=True, pk=user.pk).update(is_active=False)",
            "User.objects.filter(is_active=False, pk=user.pk).update(is_active=True)",
        ),
    ],
    ids=["save", "bulk update"],
)
def test_reactivation_brings_no_session_back(live: LiveServer, shell: Shell, off: str, on: str):
    user, tokens = live.register()
    shell(f"user = User.objects.get(pk={user['id']}); {off}")
    shell(f"user = User.objects.get(pk={user['id']}); {on}")
    assert not works(live, tokens)
    assert works(live, login(live, user["username"]))


@pytest.mark.parametrize(
    "change", ["user.name = 'New'; user.save()", "User.objects.filter(pk=user.pk).update(is_active=True)"]
)
def test_other_changes_of_the_user_end_nothing(live: LiveServer, shell: Shell, change: str):
    user, tokens = live.register()
    shell(f"user = User.objects.get(pk={user['id']}); {change}")
    assert works(live, tokens)


def test_changepassword_ends_all_tokens(live: LiveServer):
    user, tokens = live.register()
    subprocess.run(
        [sys.executable, "-m", "django", "changepassword", user["username"]],
        input="Kf7-twelve\nKf7-twelve\n", text=True, check=True, capture_output=True, start_new_session=True,
        cwd=settings.BASE_DIR, env=live.environment,
    )  # fmt: skip
    assert not works(live, tokens)
    assert works(live, login(live, user["username"], "Kf7-twelve"))


def test_a_new_password_in_the_admin_ends_all_tokens(live: LiveServer, shell: Shell):
    user, tokens = live.register()
    staff = f"staff{uuid.uuid4().hex[:8]}"
    shell(f"User.objects.create_superuser('{staff}', '{staff}@example.org', '{PASSWORD}', name='Staff')")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def submit(path: str, **fields: str) -> str:
        page = browser.open(live.url + path).read().decode()
        [token] = set(re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page))
        form = urllib.parse.urlencode(fields | {"csrfmiddlewaretoken": token}).encode()
        return str(browser.open(live.url + path, form).geturl())

    submit("/admin/login/", username=staff, password=PASSWORD, next="/admin/")
    path = f"/admin/accounts/user/{user['id']}/password/"
    landed = submit(path, usable_password="true", password1="Kf7-twelve", password2="Kf7-twelve")
    assert landed == f"{live.url}/admin/accounts/user/{user['id']}/change/"
    assert not works(live, tokens)
    assert works(live, login(live, user["username"], "Kf7-twelve"))
