"""What a view lets a personal access token do."""

from typing import Any

import pytest
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from healthcare.api.token_scopes import InsufficientScope, NotByToken, check_token

WRITES = ("POST", "PUT", "PATCH", "DELETE", "PURGE")


class PlainView(APIView):
    def post(self, request: Request) -> Response:
        return Response()


class OpenView(PlainView):
    writable_by_tokens = True


class Action:
    """A viewset in an action."""

    def __init__(self, action: str | None, **attributes: Any) -> None:
        self.action = action
        vars(self).update(attributes)


def refusal(view: Any, method: str, scope: str) -> type[PermissionDenied] | None:
    try:
        check_token(view, method, scope)
    except PermissionDenied as error:
        return type(error)
    return None


@pytest.mark.parametrize("view", [PlainView(), Action("create"), Action("destroy", writable_by_tokens=False)])
@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_view_is_closed_to_tokens_unless_it_says_otherwise(view: Any, scope: str) -> None:
    assert {refusal(view, method, scope) for method in WRITES} == {NotByToken}
    assert {refusal(view, method, scope) for method in ("GET", "HEAD", "OPTIONS")} == {None}


@pytest.mark.parametrize("view", [OpenView(), Action("create", writable_by_tokens=True)])
@pytest.mark.parametrize(("scope", "expected"), [("write", None), ("read", InsufficientScope), ("", InsufficientScope)])
def test_of_an_open_view_a_token_uses_what_its_scope_includes(view: Any, scope: str, expected: Any) -> None:
    assert {refusal(view, method, scope) for method in WRITES} == {expected}


def test_an_action_that_reads_by_post_is_open_to_a_read_token() -> None:
    roles = {"search": "read", "merge": "write"}
    assert refusal(Action("search", writable_by_tokens=True, action_roles=roles), "POST", "read") is None
    assert refusal(Action("merge", writable_by_tokens=True, action_roles=roles), "POST", "read") is InsufficientScope
    assert refusal(Action("search", action_roles=roles), "POST", "read") is NotByToken


def test_a_method_without_an_action_is_left_to_the_view() -> None:
    assert refusal(Action(None), "POST", "read") is None
