"""A network namespace for each node, and a bridge between them, so that a node can be cut off. Needs root."""

import os
import subprocess
import sys
from pathlib import Path

from healthcare.embedded.account import Account

BRIDGE, SUBNET = "hc-bridge", "10.77.0"
IN_OWN_NAMESPACE = "HEALTHCARE_DRILL_INSIDE"  # set in the process that runs in a namespace of its own


class Network:
    """The namespaces, by the names of the nodes. Create it in a namespace of its own (`enter_own_namespace`)."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.hosts = {name: number for number, name in enumerate(names, start=11)}
        self.holders: dict[str, subprocess.Popen[bytes]] = {}
        ip("link", "set", "lo", "up")
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{SUBNET}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for name in names:
            self.add_host(name)

    def add_host(self, name: str) -> None:
        # The namespace lives as long as this process.
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.holders[name] = holder
        while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            if holder.poll() is not None:
                raise OSError("no network namespace can be created")
        ip("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        ip("link", "set", f"to-{name}", "master", BRIDGE, "up")
        inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "ip"]
        for command in (
            ["link", "set", "lo", "up"],
            ["address", "add", f"{self.address(name)}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            subprocess.run([*inside, *command], check=True)

    def address(self, name: str) -> str:
        return f"{SUBNET}.{self.hosts[name]}"

    def enter(self, name: str, account: Account | None) -> tuple[str, ...]:
        """The prefix of a command that runs on this host, as the account."""
        command: tuple[str, ...] = ("nsenter", f"--net=/proc/{self.holders[name].pid}/ns/net")
        if account:
            command += (f"--setgid={account.gid}", f"--setuid={account.uid}")
        return (*command, "setpriv", "--pdeathsig", "TERM", "--")

    def cut_off(self, name: str) -> None:
        """Drop every packet to and from the host, without an error for either side."""
        ip("link", "set", f"to-{name}", "down")

    def connect(self, name: str) -> None:
        ip("link", "set", f"to-{name}", "up")

    def close(self) -> None:
        for holder in self.holders.values():
            holder.kill()
            holder.wait()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def reason_without_namespaces() -> str:
    """Why this process cannot create namespaces; empty if it can."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return "network namespaces need root on Linux"
    try:
        done = subprocess.run(
            ["unshare", "--net", "--mount", "ip", "link", "add", BRIDGE, "type", "bridge"],
            capture_output=True,
            text=True,
        )
    except OSError as error:
        return f"network namespaces need util-linux and iproute2 ({error.strerror})"
    return done.stderr.strip()


def enter_own_namespace(module: str, arguments: list[str]) -> None:
    """Run the module again, with these arguments, in a namespace of its own for network and mounts. Once."""
    if IN_OWN_NAMESPACE not in os.environ:
        command = ["unshare", "--net", "--mount", sys.executable, "-m", module, *arguments]
        os.execvpe("unshare", command, os.environ | {IN_OWN_NAMESPACE: "1"})  # noqa: S606


def mount_small_disk(folder: Path, mebibytes: int, account: Account | None) -> None:
    """A file system in memory of this size, in the mount namespace of this process."""
    owner = f",uid={account.uid},gid={account.gid}" if account else ""
    options = f"size={mebibytes}m,mode=0700{owner}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
