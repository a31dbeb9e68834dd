"""The admin site: its login, password change and second factor have the same back-off as the API's."""

from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.auth import authenticate
from django.contrib.auth.forms import UsernameField
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from rest_framework.exceptions import AuthenticationFailed

from accounts.admin_second_factor import (
    ASK_FOR_CODE,
    WRONG_CODE,
    SecondFactorPage,
    code_field,
    find_missing,
    requires_second_factor,
)
from accounts.admin_sessions import end_if_idle
from accounts.hashing_limit import hashing_slot
from accounts.limits import SessionAttempt
from accounts.second_factor.rules import OtpRequired
from healthcare.admin.home import build_home
from healthcare.api.pagination import LONGEST_SEARCH
from healthcare.api.rate_limits import RateLimited


class BackOffAuthenticationForm(AdminAuthenticationForm):
    username = UsernameField(label="Username or e-mail", widget=forms.TextInput(attrs={"autofocus": True}))
    otp = code_field(required=False, help_text="If you have a second factor: a code of your app, or a recovery code.")
    refusal: RateLimited | None = None  # while the account or the address has to wait

    def clean(self) -> dict[str, Any]:
        if self.errors:
            return self.cleaned_data
        try:
            self.user_cache = authenticate(self.request, **self.cleaned_data)
        except RateLimited as error:
            self.refusal = error
            message = f"Too many attempts. Try again in {error.wait} seconds."
            raise ValidationError(message, code="throttled") from error
        except OtpRequired:  # the password is right
            text = WRONG_CODE if self.cleaned_data["otp"] else ASK_FOR_CODE
            self.add_error("otp", f"{text} Enter your password again, too.")
            return self.cleaned_data
        except AuthenticationFailed as error:
            raise ValidationError(str(error.detail), code="refused") from error
        if self.user_cache is None:
            raise self.get_invalid_login_error()
        self.confirm_login_allowed(self.user_cache)
        return self.cleaned_data


class DescribingAutocomplete(AutocompleteJsonView):
    """Labels each choice by the model admin's `describe_record`, which distinguishes people of the same name."""

    def process_request(self, request: HttpRequest) -> tuple[Any, ...]:
        term, *source = super().process_request(request)
        return term.replace("\0", ""), *source

    def get_queryset(self) -> Any:
        """The suggestions, of which there is one page."""
        model_admin: Any = self.model_admin
        rows = model_admin.get_queryset(self.request)
        rows = rows.complex_filter(self.source_field.get_limit_choices_to())
        return model_admin.suggest(self.request, rows, self.term[:LONGEST_SEARCH])

    def serialize_result(self, obj: Any, to_field_name: str) -> dict[str, str]:
        describe_record = getattr(self.model_admin, "describe_record", str)
        return {**super().serialize_result(obj, to_field_name), "text": describe_record(obj)}


class BackOffAdminSite(AdminSite):
    site_header = "Healthcare"
    site_title = "Healthcare admin"
    index_title = "Records and accounts"
    login_form = BackOffAuthenticationForm

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Without the second factor of a member of staff, where it is needed, only the page for it and the logout."""
        is_open = view in (self.second_factor, self.logout)
        return super().admin_view(view if is_open else requires_second_factor(view), cacheable)

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and not end_if_idle(request)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context: dict[str, Any] = super().each_context(request)
        if find_missing(request):
            context |= {"is_nav_sidebar_enabled": False, "available_apps": [], "lacks_second_factor": True}
        return context

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The home page, with the figures of what the user may view."""
        response = super().index(request, extra_context)
        context: Any = response.context_data
        context["home"] = build_home(self, request, context["app_list"])
        return response

    # Not one transaction: an attempt's count must commit, and no row lock be held while a password is hashed.
    @transaction.non_atomic_requests
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The login page; 429 with the limit and Retry-After while the account or the address has to wait."""
        response = super().login(request, extra_context)
        context = response.context_data if isinstance(response, TemplateResponse) else None
        form = (context or {}).get("form")
        if form and form.refusal:
            response.status_code = 429
            for name, value in form.refusal.headers.items():
                response[name] = value
        return response

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Ends the session, and asks the browser to drop its cached pages, so that the next user of it sees none."""
        response = super().logout(request, extra_context)
        response["Clear-Site-Data"] = '"cache"'
        return response

    # Not one transaction, for the same reason.
    @transaction.non_atomic_requests
    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # type: ignore[override]
        """The form that changes the own password; 429 with the limit after repeated wrong old passwords."""
        if request.method != "POST":
            return super().password_change(request, extra_context)
        with hashing_slot():
            return self.change_password(request, extra_context)

    def change_password(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> HttpResponse:
        try:
            attempt = SessionAttempt.begin(request, str(request.session.session_key), request.user.pk or 0)
        except RateLimited as error:
            text = f"Too many attempts. Try again in {error.wait} seconds."
            return HttpResponse(text, status=429, headers=error.headers, content_type="text/plain")
        response = super().password_change(request, extra_context)
        context = response.context_data if isinstance(response, TemplateResponse) else None
        if context and "old_password" in context["form"].errors:
            attempt.fail()
        else:
            attempt.succeed()
        return response

    # Not one transaction, for the same reason. A code or a recovery code that is used up must stay so.
    @transaction.non_atomic_requests
    def second_factor(self, request: HttpRequest) -> HttpResponse:
        """The page of the own second factor; 429 with the limit after repeated wrong codes or passwords."""
        return SecondFactorPage(self, request).answer()

    def get_urls(self) -> list[Any]:
        """With the page of the second factor, and without the "view on site" redirect: no model has a page of its own,
        and it reads a row of any table."""
        page = path("second_factor/", self.admin_view(self.second_factor), name="second_factor")
        return [page, *(entry for entry in super().get_urls() if getattr(entry, "name", "") != "view_on_site")]

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        view: Any = DescribingAutocomplete.as_view(admin_site=self)
        response: HttpResponse = view(request)
        return response
