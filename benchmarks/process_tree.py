"""CPU time and memory of a process and all its descendants."""

from contextlib import suppress

import psutil


def cpu_seconds(root: psutil.Process) -> float:
    """CPU time of a process and its descendants; that of ended ones is counted by their parent.

    Reads again when a child has ended meanwhile, because its time would be counted twice or not at all.
    """
    while True:
        of_ended = ended_children_seconds(root)
        total = of_ended + own_seconds(root)
        for process in root.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                total += own_seconds(process) + ended_children_seconds(process)
        if ended_children_seconds(root) == of_ended:
            return total


def own_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def ended_children_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)


def resident_bytes(root: psutil.Process) -> list[int]:
    """Resident set size of a process and of each of its descendants, the largest first."""
    sizes = []
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            sizes.append(process.memory_info().rss)
    return sorted(sizes, reverse=True)
