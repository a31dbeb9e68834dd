"""The Prefer header: what OpenAPI says of it, and what the server reads."""

import random
import re

from rest_framework.exceptions import ParseError

from healthcare.api.preferences import PATTERN, read_preferences


def is_read(header: str) -> bool:
    try:
        read_preferences({"HTTP_PREFER": header})
    except ParseError:
        return False
    return True


def test_the_pattern_in_the_description_fits_what_is_read() -> None:
    """Quoted values alone are read and not in the pattern."""
    source = random.Random(7)  # noqa: S311
    headers = ["".join(source.choices("ab,;= \t", k=source.randint(0, 7))) for _ in range(20_000)]
    fitting = {header for header in headers if re.search(PATTERN, header)}
    assert len(fitting) > 1000
    assert [header for header in headers if is_read(header) != (header in fitting)] == []
    assert is_read('handling="lenient"')
