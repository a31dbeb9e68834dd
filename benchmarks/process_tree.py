"""CPU time and memory of a process and all its descendants."""

from contextlib import suppress

import psutil


def cpu_seconds(root: psutil.Process) -> float:
    """CPU time of a process and its descendants; that of ended ones is counted by their parent."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def resident_bytes(root: psutil.Process) -> list[int]:
    """Resident set size of a process and of each of its descendants, the largest first."""
    sizes = []
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            sizes.append(process.memory_info().rss)
    return sorted(sizes, reverse=True)
