"""The OpenAPI description of imports."""

from typing import Any

IMPORT_PATH_END = "/import/"
IN_PROBLEM = ["results", "summary"]  # what a 422 has in common with the answer of an import


def describe_imports(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular: an import needs a file, and a problem may have the results of one."""
    imports = [one["post"] for path, one in result["paths"].items() if path.endswith(IMPORT_PATH_END) and "post" in one]
    schemas = result["components"]["schemas"]
    for operation in imports:
        operation["requestBody"]["required"] = True
    if imports:
        answered, problem = schemas["ImportAnswer"]["properties"], schemas["Problem"]
        results = {name: answered[name] for name in IN_PROBLEM}
        schemas["Problem"] = problem | {"properties": problem["properties"] | results}
        del schemas["LikelyRecord"]["required"]  # it has one of its properties
    return result
