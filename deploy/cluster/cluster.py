"""The cluster: three nodes, HAProxy in front of them, and the application's database in it."""

import base64
import json
import os
import secrets
import shutil
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2

from deploy.cluster.network import Network
from deploy.cluster.nodes import PASSWORDS, Node, Ports, Process, run_program, stop
from deploy.cluster.programs import ClusterError, find_programs
from healthcare.embedded import locks
from healthcare.embedded.cluster import SUPERUSER
from healthcare.embedded.home import resolve_home
from healthcare.embedded.login import ENSURE_LOGIN, LOGIN
from healthcare.embedded.url import DATABASE_NAME
from healthcare.project import PROJECT

SHORT_LEASE = Path(__file__).with_name("short_lease.py")
HAPROXY_CFG = PROJECT / "deploy" / "patroni" / "haproxy.cfg"
NODE_NAMES = ("node1", "node2", "node3")
LOOPBACK = "127.0.0.1"
START_SECONDS = 120
# What HAProxy's configuration is written for.
ADDRESSES = {"node1": "10.0.0.21", "node2": "10.0.0.22", "node3": "10.0.0.23"}


class Cluster:
    """A cluster in one folder. `network` gives each node a network namespace; without it all share the loopback."""

    def __init__(self, folder: Path, network: Network | None = None) -> None:
        self.home = resolve_home(folder)
        self.home.create()
        self.network = network
        self.programs = find_programs(self.home)
        self.state = self.read_state()
        self.lock = -1
        self.haproxy: Process | None = None
        account = self.home.account
        self.nodes = [
            Node(
                name,
                network.address(name) if network else LOOPBACK,
                Ports(**self.state["ports"][name]),
                self.home.folder / name,
                account,
                self.programs,
                network.enter(name, account) if network else (),
            )
            for name in NODE_NAMES
        ]

    def read_state(self) -> dict[str, Any]:
        """The ports and passwords of this cluster: the first start chooses them."""
        file = self.home.folder / "cluster.json"
        if not file.exists():
            ports = iter(free_ports(len(NODE_NAMES) * 4 + 1))
            fields = ("etcd", "etcd_peer", "postgresql", "patroni")
            chosen = {
                "haproxy": next(ports),
                "ports": {name: {field: next(ports) for field in fields} for name in NODE_NAMES},
                "passwords": {name: secrets.token_urlsafe(24) for name in PASSWORDS},
            }
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as output:
                json.dump(chosen, output, indent=2)
        state: dict[str, Any] = json.loads(file.read_text())
        return state

    @property
    def database_url(self) -> str:
        """Through HAProxy."""
        return self.url_of(f"{LOOPBACK}:{self.state['haproxy']}")

    @property
    def several_hosts_url(self) -> str:
        """Without HAProxy: libpq looks for the primary itself."""
        hosts = ",".join(f"{node.address}:{node.ports.postgresql}" for node in self.nodes)
        return f"{self.url_of(hosts)}?target_session_attrs=read-write"

    def url_of(self, hosts: str) -> str:
        return f"postgres://{LOGIN}:{self.state['passwords']['application']}@{hosts}/{DATABASE_NAME}"

    def start(self, say: Callable[[str], Any] = str) -> None:
        """Start everything, and wait until the primary has a synchronous standby and the application's database.

        Raises ClusterError.
        """
        lock = locks.open_lock(self.home.folder / "running.lock", self.home.account)
        if not locks.try_lock(lock, locks.EXCLUSIVE):
            os.close(lock)
            raise ClusterError(f"A cluster runs in {self.home.folder} already; stop it, or choose another --folder.")
        self.lock = lock
        self.check_ports()
        say("Starting etcd on three nodes")
        for node in self.nodes:
            node.create_folder()
            node.write_patroni_yml()
            node.start_etcd(self.nodes)
        self.wait_for(self.etcd_answers, "etcd does not answer")
        self.protect_etcd()
        say("Starting PostgreSQL under Patroni: a primary and two standbys")
        for node in self.nodes:
            node.start_patroni(self.nodes, self.state["passwords"])
        self.wait_for(lambda: self.is_complete(), "the nodes do not become a primary and two standbys")
        self.create_database()
        say("Starting HAProxy")
        self.start_haproxy()
        self.wait_for(self.routes_only_to_primary, "HAProxy reaches no primary")

    def stop(self) -> None:
        """Stop everything: HAProxy, then the standbys before the primary, then etcd."""
        if self.lock < 0:  # not started, or by another process
            return
        stop(self.haproxy)
        primary = self.primary()
        for node in sorted(self.nodes, key=lambda node: node is primary):
            stop(node.patroni)
        for node in self.nodes:
            node.kill()  # etcd, which is safe to kill, and whatever did not stop
        os.close(self.lock)
        self.lock = -1

    def restart_node(self, node: Node) -> None:
        """Start a node again that was killed."""
        node.start_etcd(self.nodes)
        node.start_patroni(self.nodes, self.state["passwords"])

    def primary(self) -> Node | None:
        return next((node for node in self.nodes if node.ask_patroni("/primary")), None)

    def synchronous_standby(self) -> Node | None:
        return next((node for node in self.nodes if node.ask_patroni("/synchronous")), None)

    def is_complete(self) -> bool:
        """Whether there are a primary, a synchronous standby and another one, all of them streaming."""
        primary = self.primary()
        members = (primary.ask_patroni("/cluster") or {}).get("members", []) if primary else []
        states = sorted((member["role"], member["state"]) for member in members)
        expected = [("leader", "running"), ("replica", "streaming"), ("sync_standby", "streaming")]
        return states == expected

    def check_ports(self) -> None:
        ports = [self.state["haproxy"]]
        if self.network is None:
            ports += [port for node in self.nodes for port in vars(node.ports).values()]
        for port in ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((LOOPBACK, port))
                except OSError as error:
                    raise ClusterError(
                        f"Port {port} is taken by another program; stop it, or choose another --folder."
                    ) from error

    def etcd_answers(self) -> bool:
        return all(etcd_is_healthy(node.etcd_url) for node in self.nodes)

    def protect_etcd(self) -> None:
        """Require a password: who can write to etcd can make Patroni run programs. Later starts find it done."""
        url, password = self.nodes[0].etcd_url, self.state["passwords"]["etcd"]
        for path, body in (
            ("user/add", {"name": "root", "password": password}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("enable", {}),
        ):
            with suppress(OSError):  # the last step, which is checked below, has been done
                send_json("POST", f"{url}/v3beta/auth/{path}", body)
        with suppress(OSError):
            send_json("POST", f"{url}/v3beta/kv/range", {"key": "AA=="})
            raise ClusterError(f"etcd does not require its password; see {self.nodes[0].folder / 'etcd.log'}.")

    def connect(self, node: Node, database: str = DATABASE_NAME) -> Any:
        """A session of the superuser with a node's PostgreSQL."""
        return psycopg2.connect(
            host=node.address, port=node.ports.postgresql, user=SUPERUSER, dbname=database,
            password=self.state["passwords"]["superuser"], connect_timeout=5,
        )  # fmt: skip

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a query finds in the application's database on the primary."""
        primary = self.primary()
        if primary is None:
            raise ClusterError("There is no primary.")
        with closing(self.connect(primary)) as session, session.cursor() as cursor:
            cursor.execute(statement)
            session.commit()
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def change_configuration(self, changes: dict[str, Any]) -> None:
        """Change Patroni's configuration in etcd, as `patronictl edit-config` does."""
        token = base64.b64encode(f"patroni:{self.state['passwords']['restapi']}".encode()).decode()
        send_json("PATCH", f"{self.nodes[0].patroni_url}/config", changes, {"Authorization": f"Basic {token}"})

    def allow_short_lease(self) -> None:
        """Let the nodes, which have not started, accept a ttl below 20 seconds."""
        script = self.home.folder / SHORT_LEASE.name
        shutil.copyfile(SHORT_LEASE, script)
        if self.home.account:
            self.home.account.take_ownership(script)
        python, *_ = self.programs.patroni
        for node in self.nodes:
            node.programs = replace(self.programs, patroni=(python, str(script)))

    def create_database(self) -> None:
        """Create the application's role, its database and the role of API requests, unless they exist."""
        primary = self.primary()
        if primary is None:
            raise ClusterError("The primary was lost during the start; try again.")
        with closing(self.connect(primary, "postgres")) as session:
            session.autocommit = True
            cursor = session.cursor()
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME])
            if not cursor.fetchone():
                cursor.execute(f"CREATE DATABASE {DATABASE_NAME}")
        with closing(self.connect(primary)) as session, session, session.cursor() as cursor:
            cursor.execute(ENSURE_LOGIN)
            cursor.execute(f"ALTER ROLE {LOGIN} PASSWORD %s", [self.state["passwords"]["application"]])

    def start_haproxy(self) -> None:
        configuration = HAPROXY_CFG.read_text()
        changes = {"bind 127.0.0.1:5000": f"bind {LOOPBACK}:{self.state['haproxy']}"}
        for node in self.nodes:
            changes[f"{ADDRESSES[node.name]}:5432 port 8008"] = (
                f"{node.address}:{node.ports.postgresql} port {node.ports.patroni}"
            )
        for old, new in changes.items():
            if old not in configuration:
                raise ClusterError(f"{HAPROXY_CFG} has no {old!r}.")
            configuration = configuration.replace(old, new)
        file = self.home.folder / "haproxy.cfg"
        file.write_text(configuration)
        if self.home.account:
            self.home.account.take_ownership(file)
        command = [self.programs.haproxy, "-f", str(file)]
        self.haproxy = run_program(command, self.home.folder / "haproxy.log", {}, self.home.account)

    def routes_only_to_primary(self) -> bool:
        """Whether every session through HAProxy reaches the primary. Until its first health checks HAProxy treats all
        nodes as primaries and takes them in turns, so that some of these sessions would reach a standby."""
        with suppress(psycopg2.Error):
            return all(self.reaches_primary() for _ in range(2 * len(NODE_NAMES)))
        return False

    def reaches_primary(self) -> bool:
        with closing(psycopg2.connect(self.database_url, connect_timeout=2)) as session, session.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            return cursor.fetchone() == (False,)

    def wait_for(self, condition: Callable[[], bool], failure: str, seconds: float = START_SECONDS) -> None:
        """Raises ClusterError if the condition does not become true, or if a program has ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [
                f"{node.folder / name}.log"
                for node in self.nodes
                for name, process in (("etcd", node.etcd), ("patroni", node.patroni))
                if process and process.poll() is not None
            ]
            if ended or time.monotonic() > deadline:
                logs = ", ".join(ended) or f"{self.home.folder}/node*/*.log"
                raise ClusterError(f"The cluster does not start: {failure}. See {logs}.")
            time.sleep(0.2)


@contextmanager
def running_cluster(folder: Path, network: Network | None = None, say: Callable[[str], Any] = str) -> Iterator[Cluster]:
    """Yield a cluster that runs until the block ends. Raises ClusterError."""
    cluster = Cluster(folder, network)
    try:
        cluster.start(say)
        yield cluster
    finally:
        cluster.stop()


def free_ports(number: int) -> list[int]:
    """Free ports of the loopback, all different."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for opened in sockets:
            opened.bind((LOOPBACK, 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def etcd_is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as response:
            return json.load(response).get("health") in {"true", True}
    except (OSError, ValueError):
        return False


def send_json(method: str, url: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
    """Raises OSError unless it is answered with 200."""
    sent = {"Content-Type": "application/json"} | (headers or {})
    request = urllib.request.Request(url, json.dumps(body).encode(), sent, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read()
