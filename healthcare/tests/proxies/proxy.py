"""nginx, Caddy and HAProxy with the recipes of deploy/, as processes on free ports of this machine.

What runs is the recipe itself: only addresses, files and accounts are replaced.
"""

import datetime
import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from healthcare.tests.live import TIMEOUT, Answer, free_port, parse
from healthcare.tests.memory_folder import temporary_folder

PROJECT = Path(__file__).resolve().parents[3]
HOST = "api.example.org"
RECIPES = {"nginx": "nginx/healthcare.conf", "caddy": "caddy/Caddyfile", "haproxy": "haproxy/haproxy.cfg"}
# The settings of the application that the recipes are written for.
APPLICATION_SETTINGS = {"HTTPS": "True", "TRUSTED_PROXIES": "1", "ALLOWED_HOSTS": HOST}
# Debian's nginx.conf around the recipe: its `gzip on` must not compress what the recipe leaves alone.
NGINX_CONF = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    default_type application/octet-stream;
    gzip on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/recipe;
}}
"""


@dataclass
class Proxy:
    """A running proxy."""

    name: str
    port: int  # of http://
    secure_port: int
    folder: Path

    def connect(self, *, secure: bool = True, source: str = "127.0.0.1") -> socket.socket:
        address = ("127.0.0.1", self.secure_port if secure else self.port)
        connection = socket.create_connection(address, TIMEOUT, (source, 0))
        return trusting(self.folder).wrap_socket(connection, server_hostname=HOST) if secure else connection

    def call(
        self, method: str, path: str, body: Any = None, token: str = "", *, secure: bool = True, **headers: str
    ) -> Answer:
        """Send one request over a new connection, with a body as JSON."""
        lines = [b"%s: %s" % (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        answer = self.send(request(method, path, body, *lines, token=token), secure=secure)
        assert answer, "the proxy closed the connection"
        return answer

    def send(self, raw: bytes, *, secure: bool = True, source: str = "127.0.0.1") -> Answer | None:
        """Send bytes from a loopback address, and parse what is received until the connection is closed; None if that
        is nothing."""
        return parse(self.exchange(raw, secure=secure, source=source))

    def exchange(self, raw: bytes, *, secure: bool = True, source: str = "127.0.0.1") -> bytes:
        """Send bytes, and return all that is received until the proxy closes the connection."""
        with self.connect(secure=secure, source=source) as connection:
            with suppress(ConnectionError, ssl.SSLError):  # the proxy may refuse before it has read everything
                connection.sendall(raw)
            received = b""
            with suppress(ConnectionError, ssl.SSLError):
                while block := connection.recv(65536):
                    received += block
        return received

    def register(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Register a user and log in. Return both answers: the user and the pair of tokens."""
        name = f"user{uuid.uuid4().hex[:12]}"
        account = {"name": name, "username": name, "email": f"{name}@example.org", "password": "StrongPass123"}
        user = self.call("POST", "/api/auth/register/", account)
        tokens = self.call("POST", "/api/auth/login/", {"username": name, "password": account["password"]})
        assert (user.status, tokens.status) == (201, 200), (user.body, tokens.body)
        return user.json, tokens.json

    def output(self) -> str:
        """All that the proxy has logged."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))


def request(method: str, path: str, body: Any = None, *lines: bytes, token: str = "") -> bytes:
    """A request as bytes that closes its connection; `lines` are further headers."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1".encode(), f"Host: {HOST}".encode(), b"Connection: close"]
    head += [f"Authorization: Bearer {token}".encode()] if token else []
    if sent is not None:
        head += [b"Content-Type: application/json", b"Content-Length: %d" % len(sent)]
    return b"\r\n".join([*head, *lines, b"", sent or b""])


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def running_proxy(name: str, *servers: int, replacing: dict[str, str] | None = None) -> Iterator[Proxy]:
    """Run the recipe with these two ports of this machine as the servers behind it.

    `replacing` has further changes of the recipe, for a test about what a line of it does.
    """
    with temporary_folder() as folder:
        proxy = Proxy(name, free_port(), free_port(), folder)
        create_certificate(folder)
        write_recipe(proxy, list(servers), replacing or {})
        environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        with (folder / "output.log").open("wb") as log:
            process = subprocess.Popen(command(proxy), stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            wait_until_listening(proxy, process)
            yield proxy
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def command(proxy: Proxy) -> list[str]:
    found = program(proxy.name)
    assert found
    return {
        "nginx": [found, "-p", str(proxy.folder), "-e", "stderr", "-c", f"{proxy.folder}/nginx.conf"],
        "caddy": [found, "run", "--adapter", "caddyfile", "--config", f"{proxy.folder}/recipe"],
        "haproxy": [found, "-f", f"{proxy.folder}/recipe"],
    }[proxy.name]


def write_recipe(proxy: Proxy, servers: list[int], replacing: dict[str, str]) -> None:
    recipe = (PROJECT / "deploy" / RECIPES[proxy.name]).read_text()
    folder = proxy.folder
    changes = {
        "10.0.0.11:8000": f"127.0.0.1:{servers[0]}",
        "10.0.0.12:8000": f"127.0.0.1:{servers[1]}",
    }
    certificate = {
        "/etc/ssl/healthcare/fullchain.pem": f"{folder}/certificate.pem",
        "/etc/ssl/private/healthcare.pem": f"{folder}/key.pem",
    }
    if proxy.name == "nginx":
        (folder / "nginx.conf").write_text(
            ("user root;\n" if os.geteuid() == 0 else "") + NGINX_CONF.format(folder=folder)
        )
        changes |= certificate | {
            "listen 80;": f"listen 127.0.0.1:{proxy.port};",
            "listen 443 ": f"listen 127.0.0.1:{proxy.secure_port} ",
            "/var/log/nginx/healthcare.log": f"{folder}/access.log",
            "/var/log/nginx/healthcare.error.log": f"{folder}/error.log",
        }
    elif proxy.name == "caddy":
        changes |= certificate | {
            "http://:80 {": f"http://:{proxy.port} {{\n\tbind 127.0.0.1",
            "https://:443 {": f"https://:{proxy.secure_port} {{\n\tbind 127.0.0.1",
            "/var/lib/caddy/admin.sock": f"{folder}/admin.sock",
        }
    else:
        changes |= {
            "bind :80": f"bind 127.0.0.1:{proxy.port}",
            "bind :443 ": f"bind 127.0.0.1:{proxy.secure_port} ",
            "/etc/ssl/private/healthcare-combined.pem": f"{folder}/combined.pem",
            "log /dev/log local0": "log stdout format raw local0",
            "    user haproxy\n    group haproxy\n": "",
        }
    for old, new in (changes | replacing).items():
        assert old in recipe, f"the recipe has no {old!r}"
        recipe = recipe.replace(old, new)
    (folder / "recipe").write_text(recipe)


def wait_until_listening(proxy: Proxy, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{proxy.name} ended with {process.returncode}: {proxy.output()}")
        try:
            for port in (proxy.port, proxy.secure_port):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{proxy.name} does not listen: {proxy.output()}")


def create_certificate(folder: Path) -> None:
    """Write a self-signed certificate for HOST and 127.0.0.1: certificate.pem, key.pem, and both in combined.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(private)
    (folder / "combined.pem").write_bytes(certificate + private)


def trusting(folder: Path) -> ssl.SSLContext:
    """A client's TLS that trusts the proxy's certificate alone."""
    return ssl.create_default_context(cafile=str(folder / "certificate.pem"))
