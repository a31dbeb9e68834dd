"""/api/schema/: the OpenAPI description as JSON or YAML."""

from collections.abc import Iterable
from functools import cache
from threading import Lock
from typing import Any

from django.db import transaction
from django.http import Http404
from django.utils.decorators import method_decorator
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class FormatNegotiation(DefaultContentNegotiation):
    """`?format=json` or `?format=yaml`, else what Accept asks for, else JSON."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        offered = list(renderers)
        if wanted := request.query_params.get("format"):
            offered = [renderer for renderer in offered if renderer.format == wanted]
            if not offered:
                raise Http404
        try:
            selected: tuple[BaseRenderer, str] = super().select_renderer(request, offered, format_suffix)
        except NotAcceptable:
            return offered[0], offered[0].media_type
        return selected


# Without a transaction, so that the description is available when the database is not.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class SchemaView(APIView):
    is_page = True  # for `middleware.find_page`
    authentication_classes = []
    permission_classes = [AllowAny]
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer2, OpenApiYamlRenderer]
    content_negotiation_class = FormatNegotiation

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=300", "Vary": "Accept"}
        return Response(description(), headers=headers)


_building = Lock()


def description() -> Any:
    """The OpenAPI description, built once a process, since it depends only on the code.

    Under a lock: drf-spectacular's generator is not thread-safe.
    """
    with _building:
        return build_description()


@cache
def build_description() -> Any:
    return SchemaGenerator().get_schema(request=None, public=True)
