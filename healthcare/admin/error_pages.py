"""The admin's pages for errors, which say what happened and what to do. Django's handlers answer outside the admin."""

from collections.abc import Callable
from http import HTTPStatus

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import defaults
from django.views.decorators.csrf import requires_csrf_token

ErrorView = Callable[[HttpRequest, Exception], HttpResponse]


def error_page(request: HttpRequest, status: HTTPStatus, title: str, advice: str) -> HttpResponse:
    context = admin.site.each_context(request) | {"title": title, "advice": advice}
    return render(request, "admin/error.html", context, status=status)


def error_handler(otherwise: ErrorView, status: HTTPStatus, title: str, advice: str) -> ErrorView:
    """A handler for `handler400` and its like in the URL conf."""

    @requires_csrf_token  # the page has the form that logs out
    def handle(request: HttpRequest, exception: Exception) -> HttpResponse:
        if not request.path_info.startswith("/admin/"):
            return otherwise(request, exception)
        return error_page(request, status, title, advice)

    return handle


bad_request = error_handler(
    defaults.bad_request,
    HTTPStatus.BAD_REQUEST,
    "This request cannot be carried out",
    "The address or the form has a value that this page does not know. Go back, and choose it again.",
)
permission_denied = error_handler(
    defaults.permission_denied,
    HTTPStatus.FORBIDDEN,
    "Your account may not do this",
    "Ask an administrator of this server for the permission if you need it for your work.",
)
page_not_found = error_handler(
    defaults.page_not_found,
    HTTPStatus.NOT_FOUND,
    "There is no such page",
    "The record may have been erased, or the address may be wrong. Search for the record in its list.",
)


@requires_csrf_token
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The answer to a form that was sent without its token, such as one that was opened before the last login."""
    return error_page(
        request,
        HTTPStatus.FORBIDDEN,
        "This form is out of date",
        "You have logged in again since it was opened, or your browser sends no cookies. Nothing was saved. Go back,"
        " copy what you entered, reload the page, and send it again.",
    )
