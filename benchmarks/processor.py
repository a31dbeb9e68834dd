"""CPU time and memory of a program, all its processes together."""

from contextlib import suppress

import psutil


def seconds(root: psutil.Process) -> float:
    """What a process and its descendants have used so far; of those that have ended their parent knows."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def memory(root: psutil.Process) -> list[int]:
    """Bytes that a process and its descendants each hold (RSS), the largest first."""
    sizes = []
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            sizes.append(process.memory_info().rss)
    return sorted(sizes, reverse=True)
