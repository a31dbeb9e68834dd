"""The OpenAPI description of exports."""

from collections.abc import Sequence
from typing import Any

EXPORT_PATH_END = "export/"
PAGE_PARAMETERS = {"limit", "cursor", "count", "include"}  # of a list, but not of an export


def describe_exports(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular: each /export/ has the parameters of its list but those of pages."""
    from healthcare.exports.views import SERVER, exported_viewsets  # noqa: PLC0415  (needs the settings of DRF)

    views = exported_viewsets()
    for path, operations in result["paths"].items():
        if not path.endswith(f"/{EXPORT_PATH_END}") or "get" not in operations:
            continue
        of_list = result["paths"][path.removesuffix(EXPORT_PATH_END)]["get"]["parameters"]
        own = operations["get"]["parameters"]
        names = {parameter["name"] for parameter in own} | PAGE_PARAMETERS
        more = [*views[path.split("/")[-3]].more_columns, SERVER]
        own += [with_columns(parameter, more) for parameter in of_list if parameter["name"] not in names]
        own.sort(key=lambda parameter: parameter["name"])
    return result


def with_columns(parameter: dict[str, Any], more: Sequence[str]) -> dict[str, Any]:
    """`fields` may name the columns that a list does not have, too."""
    if parameter["name"] != "fields":
        return parameter
    schema = parameter["schema"]
    names = sorted([*schema["items"]["enum"], *more])
    description = "Writes only these columns."
    return parameter | {
        "description": description,
        "schema": schema | {"items": schema["items"] | {"enum": names}},
    }
