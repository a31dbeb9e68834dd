"""The WSGI environment (PEP 3333) of a request that granian has received."""

from functools import lru_cache
from typing import Any

Environ = dict[str, Any]


@lru_cache(maxsize=1024)
def environ_key(header: str) -> str:
    """The key of a header, of which granian gives the name in lower case; empty for a name with an underscore."""
    if header in {"content-type", "content-length"}:
        return header.upper().replace("-", "_")
    return "" if "_" in header else f"HTTP_{header.upper().replace('-', '_')}"


def as_wsgi_text(text: str) -> str:
    """Latin-1 that stands for the bytes of UTF-8 (PEP 3333)."""
    return text if text.isascii() else text.encode().decode("latin-1")


def build_environ(base: Environ, scope: Any) -> Environ:
    """The WSGI environment of a request but for its body. A header with bytes outside ASCII is empty, as in granian."""
    environ = base.copy()
    environ["REQUEST_METHOD"] = scope.method
    environ["PATH_INFO"] = as_wsgi_text(scope.path)
    environ["QUERY_STRING"] = as_wsgi_text(scope.query_string)
    environ["SERVER_PROTOCOL"] = f"HTTP/{scope.http_version}"
    environ["SERVER_NAME"], _, environ["SERVER_PORT"] = scope.server.rpartition(":")
    address, _, environ["REMOTE_PORT"] = scope.client.rpartition(":")
    environ["REMOTE_ADDR"] = address.strip("[]")
    headers, keys_before = scope.headers, len(environ)
    for name, value in headers.items():
        key = environ_key(name)
        if key in environ:
            value = f"{environ[key]}{';' if name == 'cookie' else ','}{value}"
        if key:
            environ[key] = value
    if len(environ) - keys_before < len(headers):  # some are left out
        unreadable = {environ_key(name) for name in headers.keys()} - environ.keys() - {""}  # noqa: SIM118
        environ.update(dict.fromkeys(unreadable, ""))
    if "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority or ""
    return environ
