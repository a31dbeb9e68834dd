"""`python -m deploy.cluster` starts a cluster and runs it until Ctrl-C. See docs/cluster.md."""

import argparse
import signal
import sys
from pathlib import Path

from deploy.cluster.cluster import Cluster, running_cluster
from deploy.cluster.programs import ClusterError
from healthcare.embedded.errors import EmbeddedError
from healthcare.project import PROJECT

STARTED = """
The cluster runs until Ctrl-C. The application reaches its primary through HAProxy:

  export DATABASE_URL={url}
  python3 manage.py migrate
  python3 manage.py serve 8000     # one instance
  python3 manage.py serve 8001     # and another one, in a second terminal

Without HAProxy, libpq finds the primary:

  DATABASE_URL={several}

State of the nodes: {patronictl}
Data, logs, ports and passwords: {folder}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, default=PROJECT / ".cluster", help="data and secrets; %(default)s")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_cluster(arguments.folder, say=say) as cluster:
            say(describe(cluster))
            signal.pause()
    except (ClusterError, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
    return 0


def say(text: str) -> None:
    print(text, flush=True)


def describe(cluster: Cluster) -> str:
    node = cluster.nodes[0]
    return STARTED.format(
        url=cluster.database_url,
        several=f"'{cluster.several_hosts_url}'",
        patronictl=f"curl -s http://{node.address}:{node.ports.patroni}/cluster",
        folder=cluster.home.folder,
    )


if __name__ == "__main__":
    sys.exit(main())
