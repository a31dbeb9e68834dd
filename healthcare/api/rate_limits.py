"""What a 429 tells about the limit: RateLimit and RateLimit-Policy (IETF draft-ietf-httpapi-ratelimit-headers)."""

from dataclasses import dataclass, replace
from typing import Any

from rest_framework.exceptions import Throttled

from healthcare.operations.metrics import count_throttled

RATE_LIMIT_HEADERS: dict[str, dict[str, Any]] = {
    "RateLimit": {
        "description": "The limit that was reached, the requests that remain and the seconds until more do: "
        '`"requests";r=0;t=42` (IETF draft-ietf-httpapi-ratelimit-headers).',
        "required": True,
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": 'The limit: `"requests";q=6000;w=60` is 6,000 requests in 60 seconds.',
        "required": True,
        "schema": {"type": "string"},
    },
}


@dataclass(frozen=True)
class RatePolicy:
    """A limit: at most `quota` requests in `window` seconds."""

    name: str
    quota: int
    window: int

    def times(self, scale: int) -> "RatePolicy":
        return replace(self, quota=self.quota * scale)

    def headers(self, wait: int) -> dict[str, str]:
        """Of a 429, where the next request may be sent after `wait` seconds. Two are structured fields (RFC 9651)."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.quota};w={self.window}',
            "RateLimit": f'"{self.name}";r=0;t={wait}',
            "Retry-After": str(wait),
        }


class RateLimited(Throttled):
    """A 429 that names its policy."""

    def __init__(self, policy: RatePolicy, wait: int) -> None:
        super().__init__(wait)
        count_throttled(policy.name)
        self.wait: int = wait
        self.headers = policy.headers(wait)
