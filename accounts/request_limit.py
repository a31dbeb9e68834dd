"""The general limit: RATE_LIMIT requests a minute by each caller, or by each address without a valid token.

It keeps one client from using up a server, so it is counted in the memory of each process: N processes allow N times as
much. Limits that must hold exactly, such as guesses of a password, are counted in PostgreSQL: see `limits`.
"""

import math
import time
from collections.abc import Callable
from functools import lru_cache
from threading import Lock

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.settings import api_settings
from rest_framework_simplejwt.exceptions import TokenError

from accounts.authentication import SessionJWTAuthentication, decode_token, known_tokens
from accounts.client_address import client_address, client_network
from accounts.limits import user_key
from accounts.personal_tokens.format import PREFIX, read_token
from accounts.tokens import session_and_user_ids
from healthcare.api.health_checks import HEALTH_CHECKS
from healthcare.api.middleware import Middleware
from healthcare.api.problems import problem_response
from healthcare.api.rate_limits import RatePolicy
from healthcare.operations.metrics import count_throttled

WINDOW = 60  # seconds from the first request of a caller
MOST_CALLERS = 20_000  # counted at once, in about 5 MB
authentication = SessionJWTAuthentication()


class RequestLimitMiddleware(Middleware):
    """Answers 429 beyond the limit. It runs before the view, so that it holds for every path but the health checks, and
    behind the CORS headers, so that the pages of other origins can read the answer."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)
        self.counts = RequestCounts()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in HEALTH_CHECKS:
            return self.get_response(request)
        caller = identify_caller(request)
        if isinstance(caller, int):
            request.caller = user_key(caller)  # type: ignore[attr-defined]  # for the access log
        quota = settings.RATE_LIMIT * settings.THROTTLE_SCALE
        if quota and (wait := self.counts.add(caller, quota)):
            policy = RatePolicy("requests", quota, WINDOW)
            count_throttled(policy.name)
            return problem_response(request, 429, headers=policy.headers(wait))
        response = self.get_response(request)
        entries = getattr(request, "entries", 1)  # of a FHIR Bundle: each counts as a request
        if quota and entries > 1:
            self.counts.add(caller, quota, entries - 1)
        # Who is logged in to the admin, if the request has looked: a query of its own would be for the log alone.
        user = vars(request).get("_cached_user")
        if user is not None and user.pk:
            request.caller = user_key(user.pk)  # type: ignore[attr-defined]
        return response


class RequestCounts:
    """The requests of each caller within a window that starts with the first of them. Safe to use from threads."""

    def __init__(self) -> None:
        self.windows: dict[int | str, list[float]] = {}  # the end of the window, and the requests within it
        self.lock = Lock()

    def add(self, caller: int | str, quota: int, number: int = 1) -> int:
        """Count requests. Returns 0, or the seconds to wait if the quota is used up already."""
        now = time.monotonic()
        with self.lock:
            window = self.windows.get(caller)
            if window is None or window[0] <= now:
                if window is None and len(self.windows) >= MOST_CALLERS:
                    self.make_room(now)
                self.windows[caller] = [now + WINDOW, number]
                return 0
            if window[1] < quota:
                window[1] += number
                return 0
            return math.ceil(window[0] - now)

    def make_room(self, now: float) -> None:
        """Drop the windows that have ended. If none has, drop all: so many callers cannot be limited one by one."""
        running = {caller: window for caller, window in self.windows.items() if window[0] > now}
        self.windows = running if len(running) < MOST_CALLERS else {}


def identify_caller(request: HttpRequest) -> int | str:
    """The id of the user in a valid token, whichever of their tokens it is; otherwise the client's address.

    A personal access token proves nothing before the database knows it, so its first request counts by the address.
    """
    header = request.META.get("HTTP_AUTHORIZATION")
    if header:
        try:
            user_id, expires = read_header(header)
        except (AuthenticationFailed, TokenError):
            pass  # the view answers 401; until then it is a request without a token
        else:
            if expires > time.time():
                return user_id
    proxies = api_settings.NUM_PROXIES or 0
    # A client may send much in front of what the proxies add, and the results are cached.
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")[-64 * proxies :] if proxies else ""
    return find_network(forwarded, request.META.get("REMOTE_ADDR"), proxies)


def read_header(header: str) -> tuple[int, float]:
    """The user's id in the token of an Authorization header, and when the token expires.

    Raises AuthenticationFailed or TokenError for any other header.
    """
    scheme, _, rest = header.partition(" ")
    text = rest.strip()
    if not text.startswith(PREFIX):
        return read_access_token(header)
    personal = read_token(text) if scheme.lower() == "bearer" else None
    known = known_tokens.get(personal.secret_hash) if personal else None
    if known is None:
        raise AuthenticationFailed
    return known.user_id, math.inf


@lru_cache(maxsize=4096)
def read_access_token(header: str) -> tuple[int, float]:
    """The same for the access token of a login; what is raised is not cached."""
    raw = authentication.get_raw_token(header.encode("latin-1", "replace"))
    token = decode_token(raw) if raw else None
    ids = session_and_user_ids(token) if token else None
    if token is None or ids is None:
        raise AuthenticationFailed
    return ids[1], token["exp"]


@lru_cache(maxsize=4096)
def find_network(forwarded: str, remote: str | None, proxies: int) -> str:
    """The IPv4 address or the /64 of IPv6 that these headers name behind so many proxies."""
    request = HttpRequest()
    request.META = {"REMOTE_ADDR": remote} | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})
    return client_network(client_address(request))
