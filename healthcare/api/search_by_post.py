"""`POST /…/search/`: the list of a viewset, with its query parameters in the body.

A URL ends up in the logs of proxies and in browsers' histories. A name, a phone number or an identifier does not, if it
is sent in a body.
"""

from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from healthcare.api.exceptions import refuse
from healthcare.api.pagination import joined_parameters
from healthcare.api.unknown_parameters import UnknownField, known_parameters, path_shape, refuse_fields
from healthcare.api.viewsets import RecordViewSet

WRITE_A_VALUE = "Send a text, a number, true or false; names are separated by commas."


class SearchByPostMixin(RecordViewSet):
    """Adds /search/ to the paths of a list. It answers, counts as a read and pages as the list does.

    The `Link` header repeats nothing of the body: send the same body with the `cursor` of the link, in the body or in
    the URL.
    """

    actions_without_key = frozenset({"search"})

    @extend_schema(request={"application/json": {"type": "object"}})
    @action(detail=False, methods=["post"], url_path="search")
    def search(self, request: Request) -> Response:
        parameters = self.read_body(request)
        refuse(parameters.keys() & request.query_params.keys(), "repeated", "Send this in the body or in the URL.")
        sent = request.query_params
        request._request.GET = QueryDict(urlencode({**parameters, **joined_parameters(sent)}))
        self.action = "list"  # from here on it is the list
        try:
            self.select_fields(request)
            return self.list(request)
        finally:
            request._request.GET = sent  # middleware may log the parameters of a URL

    def read_body(self, request: Request) -> dict[str, str]:
        """The parameters of the body as a query string would have them; null stands for none."""
        path = path_shape(request._request.resolver_match.route.removesuffix("search/"))  # type: ignore[union-attr]
        known, body = known_parameters().get(("GET", path), frozenset()), dict(request.data)
        if self.handling != "lenient":
            refuse_fields([UnknownField((), name, known) for name in body if name not in known])
        values = {name: value for name, value in body.items() if name in known and value is not None}
        wrong = [name for name, value in values.items() if not isinstance(value, str | int | float)]
        if wrong:
            raise ValidationError({name: [ErrorDetail(WRITE_A_VALUE, "invalid")] for name in wrong})
        return {name: query_text(value) for name, value in values.items()}


def query_text(value: Any) -> str:
    """A JSON value as a query parameter. 34.0 is an integer in JSON."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_bodies(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular: the body of each /search/ has the query parameters of its list."""
    for path, operations in result["paths"].items():
        if not path.endswith("/search/") or "post" not in operations:
            continue
        parameters = result["paths"][path.removesuffix("search/")]["get"]["parameters"]
        properties = {
            parameter["name"]: body_schema(parameter) for parameter in parameters if parameter["in"] == "query"
        }
        name = "".join(part.title() for part in operations["post"]["operationId"].split("_")) + "Request"
        result["components"]["schemas"][name] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
        reference = {"schema": {"$ref": f"#/components/schemas/{name}"}}
        operations["post"]["requestBody"] = {"content": {"application/json": reference}, "required": True}
    return result


def body_schema(parameter: dict[str, Any]) -> dict[str, Any]:
    """The schema of a query parameter in a body, where a list of names is one text with commas."""
    schema = {"type": "string"} if parameter["schema"].get("type") == "array" else parameter["schema"]
    description = parameter.get("description")
    return schema | ({"description": description} if description else {})
