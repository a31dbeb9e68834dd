"""The second factor in the admin: who has to give a code or to enrol before anything else, and the page for it.

A user with a confirmed factor gives a code at the login, or on this page in a session that was opened before. With
ADMIN_OTP=required those who have none enrol on it first. Every other view of the admin redirects here until then, see
`BackOffAdminSite.admin_view`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import wraps
from typing import Any
from urllib.parse import urlencode

import segno
from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe

from accounts.hashing_limit import hashing_slot
from accounts.limits import SessionAttempt
from accounts.models import User
from accounts.second_factor.models import SecondFactor, confirmed_factor
from accounts.second_factor.rules import (
    FACTOR_REMOVED,
    CodeCheck,
    FactorEnrolled,
    FactorMissing,
    NewFactor,
    begin_factor,
    check_counted_code,
    confirm_factor,
    read_unconfirmed,
    remove_factor,
)
from healthcare.api.rate_limits import RateLimited

# In the session: when the factor was confirmed whose code this session has passed, so that a code of a former factor is
# worth nothing; and when the one was begun whose secret this session may show again.
PASSED, BEGUN = "second_factor_passed", "second_factor_begun"
WRONG_CODE = "This code is wrong or was used before. Enter the one that your app shows now, or a recovery code."
ASK_FOR_CODE = "Enter the code that your authenticator app shows now, or a recovery code."


class MissingStep(Enum):
    """What a member of staff has to do before anything else in the admin."""

    CODE = "give a code of the second factor"
    FACTOR = "enrol a second factor"


def find_missing(request: HttpRequest) -> MissingStep | None:
    user: Any = request.user
    if not (user.is_active and user.is_staff):
        return None
    factor = confirmed_factor(user)
    if factor:
        return None if request.session.get(PASSED) == time_of(factor.confirmed_at) else MissingStep.CODE
    return MissingStep.FACTOR if settings.ADMIN_OTP == "required" else None


def time_of(moment: Any) -> str:
    return str(moment.isoformat())


def remember_passed(request: HttpRequest, **_: Any) -> None:
    """After a login, and on the page: if the request has passed a code, so has its session."""
    if not getattr(request, "passed_second_factor", False):
        return
    factor = SecondFactor.objects.confirmed().filter(pk=request.user.pk).first()
    if factor:
        request.session[PASSED] = time_of(factor.confirmed_at)


def requires_second_factor(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The view, for requests of staff from whom nothing is missing; the others are led to the page that asks for it."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if find_missing(request) is None:
            return view(request, *args, **kwargs)
        query = f"?{urlencode({'next': request.get_full_path()})}" if request.method == "GET" else ""
        return HttpResponseRedirect(reverse("admin:second_factor") + query)

    return guarded


class CodeInput(forms.TextInput):
    """Like a password, a code is not sent back with the errors of its form."""

    def format_value(self, value: Any) -> None:
        return None


def code_field(**options: Any) -> forms.CharField:
    """A code of an authenticator app, or a recovery code."""
    attributes = {
        "autocomplete": "one-time-code", "inputmode": "numeric", "autocapitalize": "characters", "spellcheck": "false",
        "class": "vTextField",
    }  # fmt: skip
    return forms.CharField(max_length=100, label="Code", widget=CodeInput(attrs=attributes), **options)


class PasswordForm(forms.Form):
    password = forms.CharField(
        label="Your password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "class": "vTextField"}),
    )


class CodeForm(forms.Form):
    otp = code_field(help_text=ASK_FOR_CODE)


class FirstCodeForm(forms.Form):
    otp = code_field(help_text="The six digits that the app shows now.")


class RemovalForm(PasswordForm, CodeForm):
    """Password and code, since neither a stolen password nor an open browser alone may remove the factor."""

    field_order = ("password", "otp")


class Outdated(Exception):  # noqa: N818
    """The user got another password during the request, which has ended this session."""


class SecondFactorPage:
    """One request to the page. A POST names the step that its form takes; one that the state of the factor does not
    allow any more, as after a double click, leads to the page as it is now.

    form: the form that was sent.
    new: the factor that is being enrolled, if the page shows it.
    """

    form: forms.Form | None = None
    new: NewFactor | None = None

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self.site, self.request = site, request
        self.user: Any = request.user
        self.factor, self.missing = confirmed_factor(request.user), find_missing(request)

    def answer(self) -> HttpResponse:
        if self.request.method != "POST":
            return self.show()
        steps = {"code": self.give_code, "begin": self.begin, "confirm": self.confirm, "remove": self.remove}
        step = self.request.POST.get("step", "")
        if step not in steps:
            raise BadRequest
        if step not in self.possible_steps():
            return self.redirect_here()
        try:
            return steps[step]()
        except RateLimited as error:
            return self.refuse(error)
        except (FactorEnrolled, FactorMissing, Outdated):  # in another window
            return self.redirect_here()

    def possible_steps(self) -> set[str]:
        if self.factor is None:
            return {"begin", "confirm"}
        return {"code"} if self.missing else {"remove"}

    def give_code(self) -> HttpResponse:
        self.form = form = CodeForm(self.request.POST)
        if not form.is_valid():
            return self.show()
        check = check_counted_code(self.request, self.user, form.cleaned_data["otp"])
        if not check.passed:
            form.add_error("otp", WRONG_CODE if check is CodeCheck.WRONG else ASK_FOR_CODE)
            return self.show()
        self.pass_second_factor()
        return HttpResponseRedirect(self.next_url())

    def begin(self) -> HttpResponse:
        self.form = form = PasswordForm(self.request.POST)
        attempt = self.check_password(form) if form.is_valid() else None
        if attempt is None:
            return self.show()
        attempt.succeed()
        with self.unchanged_user():
            self.new = begin_factor(self.user)
            self.request.session[BEGUN] = self.time_begun()
        self.form = FirstCodeForm()
        return self.show()

    def confirm(self) -> HttpResponse:
        if self.request.session.get(BEGUN) == self.time_begun():
            self.new = read_unconfirmed(self.user)
        if self.new is None:
            return self.redirect_here()
        self.form = form = FirstCodeForm(self.request.POST)
        if not form.is_valid():
            return self.show()
        attempt = self.begin_attempt()
        with self.unchanged_user():
            codes = confirm_factor(self.request, self.user, form.cleaned_data["otp"])
        if codes is None:  # logged by `confirm_factor`, and counted
            form.add_error("otp", "This code is wrong. Enter the one that your app shows now.")
            return self.show()
        attempt.succeed()
        self.request.session.pop(BEGUN)
        self.pass_second_factor()
        return self.page("codes", recovery_codes=codes)

    def remove(self) -> HttpResponse:
        self.form = form = RemovalForm(self.request.POST)
        attempt = self.check_password(form) if form.is_valid() else None
        if attempt is None:
            return self.show()
        attempt.succeed()
        if not check_counted_code(self.request, self.user, form.cleaned_data["otp"]).passed:
            form.add_error("otp", WRONG_CODE)
            return self.show()
        with self.unchanged_user():
            remove_factor(self.request, self.user, FACTOR_REMOVED)
        self.request.session.pop(PASSED, None)
        messages.success(self.request, "The second factor was removed. Logins ask for the password alone.")
        return self.redirect_here()

    def check_password(self, form: forms.Form) -> SessionAttempt | None:
        """The counted attempt with the right password; None, with an error on the form, for a wrong one. Raises
        RateLimited (429) and Busy (503)."""
        with hashing_slot():
            attempt = self.begin_attempt()
            if self.user.check_password(form.cleaned_data["password"]):
                return attempt
        attempt.fail()
        form.add_error("password", "This is not your password.")
        return None

    def begin_attempt(self) -> SessionAttempt:
        return SessionAttempt.begin(self.request, str(self.request.session.session_key), self.user.pk)

    @contextmanager
    def unchanged_user(self) -> Iterator[None]:
        """A transaction in which the user keeps the password that the session began with. Raises Outdated."""
        with transaction.atomic():
            if not User.objects.get_queryset().lock_if_unchanged(self.user).exists():
                raise Outdated
            yield

    def time_begun(self) -> str:
        """When the user's factor was begun last; empty if it never was."""
        moment = SecondFactor.objects.filter(pk=self.user.pk).values_list("created_at", flat=True).first()
        return time_of(moment) if moment else ""

    def pass_second_factor(self) -> None:
        self.request.passed_second_factor = True  # type: ignore[attr-defined]
        self.request.session.cycle_key()  # it is worth more now (ASVS 7.2.4)
        remember_passed(self.request)
        self.user.refresh_from_db()  # with the factor, for the frame of the page
        self.missing = None

    def show(self) -> HttpResponse:
        """The page as the factor is: with the form for a code, to begin, to confirm, or to remove the factor."""
        if self.new:
            secret = " ".join(re.findall("....", self.new.secret))
            return self.page("enrol", qr_code=draw_qr_code(self.new.otpauth_uri), secret=secret)
        if self.factor is None:
            self.form = self.form or PasswordForm()
            return self.page("start")
        if self.missing:
            self.form = self.form or CodeForm()
            return self.page("code")
        self.form = self.form or RemovalForm()
        return self.page("enrolled", factor=self.factor, codes_left=self.factor.recovery_codes.count())

    def refuse(self, error: RateLimited) -> HttpResponse:
        """429 while the account, the address or the session has to wait."""
        if self.form:
            self.form.add_error(None, f"Too many attempts. Try again in {error.wait} seconds.")
        response = self.show()
        response.status_code = 429
        for name, value in error.headers.items():
            response[name] = value
        return response

    def page(self, state: str, **context: Any) -> TemplateResponse:
        self.request.current_app = self.site.name
        frame = self.site.each_context(self.request)
        shared = {
            "title": "Second factor",
            "state": state,
            "form": self.form,
            "next": self.next_url(),
            "is_required": settings.ADMIN_OTP == "required",
        }
        return TemplateResponse(self.request, "admin/second_factor.html", {**frame, **shared, **context})

    def redirect_here(self) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:second_factor"))

    def next_url(self) -> str:
        """The page of this server that was asked for, or the home page."""
        asked = self.request.POST.get("next") or self.request.GET.get("next") or ""
        hosts, is_secure = {self.request.get_host()}, self.request.is_secure()
        is_safe = url_has_allowed_host_and_scheme(asked, allowed_hosts=hosts, require_https=is_secure)
        return asked if is_safe else reverse("admin:index")


def draw_qr_code(text: str) -> SafeString:
    """An SVG without styles, which the content security policy would block; black on white in the dark theme, too."""
    svg = segno.make(text, micro=False).svg_inline(omitsize=True, light="#fff", svgclass=None, lineclass=None)
    return mark_safe(svg)  # noqa: S308  (drawn by segno: it holds no part of the text)
