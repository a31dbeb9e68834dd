import json as j
from typing import Any

from healthcare.api.parsers import decode_object


def decode(text: str) -> dict[str, Any]:
    return decode_object(text, "The body")


def encode(value: Any, *, indent: bool = False) -> str:
    return j.dumps(value, ensure_ascii=False, separators=(",", ":"))


def pretty(text: str) -> str:
    return j.dumps(j.loads(text), indent=2)
