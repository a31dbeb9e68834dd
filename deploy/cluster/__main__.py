"""`python -m deploy.cluster` starts a cluster and runs it until Ctrl-C. See docs/cluster.md."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from deploy.cluster.cluster import NODE_NAMES, Cluster, running_cluster
from deploy.cluster.network import Network, enter_own_namespace, reason_without_namespaces
from deploy.cluster.programs import ClusterError
from healthcare.embedded.errors import EmbeddedError
from healthcare.project import PROJECT

# The events of a drill by their options, and how often each happens.
DRILL_EVENTS = {
    "primary-kills": ("PostgreSQL of the primary killed", 20),
    "machine-kills": ("machine of the primary killed", 5),
    "instance-kills": ("instance killed", 20),
    "primary-pauses": ("primary paused", 2),
    "standby-pauses": ("standby paused", 2),
    "primary-cuts": ("primary cut off", 2),
    "standby-cuts": ("standby cut off", 2),
    "full-disks": ("disk of a standby full", 2),
}
EVENTS_OF_NETWORK = ("primary cut off", "standby cut off", "disk of a standby full")

START_MESSAGE = """
The cluster runs until Ctrl-C. The application reaches its primary through HAProxy:

  export DATABASE_URL={url}
  python3 manage.py serve 8000     # one instance, which migrates first
  python3 manage.py serve 8001     # then another one, in a second terminal

Without HAProxy, libpq finds the primary:

  DATABASE_URL={several}

State of the nodes: {patronictl}
Data, logs, ports and passwords: {folder}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, default=PROJECT / ".cluster", help="data and secrets; %(default)s")
    add_drill(parser.add_subparsers(dest="command"))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.command == "drill":
            return drill(arguments)
        with running_cluster(arguments.folder, say=say) as cluster:
            say(start_message(cluster))
            signal.pause()
    except (ClusterError, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
    return 0


def add_drill(commands: Any) -> None:
    parser = commands.add_parser("drill", help="kill, pause and cut off its parts under load, in a cluster of its own")
    for option, (kind, times) in DRILL_EVENTS.items():
        parser.add_argument(f"--{option}", type=int, default=times, metavar="TIMES", help=f"{kind}; %(default)s")
    parser.add_argument(
        "--lease", type=int, default=0, metavar="SECONDS",
        help="Patroni's ttl, at least 7, in place of the 20 seconds that Patroni enforces",
    )  # fmt: skip


def drill(arguments: argparse.Namespace) -> int:
    impossible = reason_without_namespaces()
    network = None
    if impossible:
        say(f"Skipped: what needs hosts of their own, and full disks: {impossible}.")
    else:
        enter_own_namespace("deploy.cluster", sys.argv[1:])
        network = Network(NODE_NAMES)
    from deploy.cluster.drill import run_drill  # imports the tests, which change the environment

    times = {kind: getattr(arguments, option.replace("-", "_")) for option, (kind, _) in DRILL_EVENTS.items()}
    if not network:
        times = {kind: number for kind, number in times.items() if kind not in EVENTS_OF_NETWORK}
    try:
        figures = run_drill(times, network, say, arguments.lease)
    finally:
        if network:
            network.close()
    say(str(figures))
    return 1 if figures.faults else 0


def say(text: str) -> None:
    print(text, flush=True)


def start_message(cluster: Cluster) -> str:
    node = cluster.nodes[0]
    return START_MESSAGE.format(
        url=cluster.database_url,
        several=f"'{cluster.several_hosts_url}'",
        patronictl=f"curl -s http://{node.address}:{node.ports.patroni}/cluster",
        folder=cluster.home.folder,
    )


if __name__ == "__main__":
    sys.exit(main())
