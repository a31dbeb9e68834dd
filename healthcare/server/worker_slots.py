"""Which worker counts in which slot of the metrics."""

from collections.abc import Callable
from typing import Any

from granian.server.mp import WorkerProcess

from healthcare.operations.metrics import MetricsMemory, take_slot
from healthcare.server.metrics_process import close_inherited_listeners
from healthcare.server.supervisor import has_ended


class WorkerSlots:
    """In the parent: each live worker has a slot of its own, and the slots of dead ones are continued by the next."""

    def __init__(self, memory: MetricsMemory) -> None:
        self.memory = memory
        self.workers: dict[int, WorkerProcess] = {}  # the last one of each slot
        self.slot_of_index: dict[int, int] = {}

    def free_slot(self, index: int) -> int:
        """The slot for the worker that starts with this index of granian: that of its predecessor, unless it lives."""
        wanted = self.slot_of_index.get(index, index)
        candidates: list[int] = [wanted, *range(self.memory.slots)]
        return next(slot for slot in candidates if not self.is_used(slot))

    def is_used(self, slot: int) -> bool:
        worker = self.workers.get(slot)
        return worker is not None and not has_ended(worker)

    def assign(self, slot: int, index: int, worker: WorkerProcess) -> None:
        """Count a restart if the worker replaces one that has died, and not one that is about to be stopped."""
        predecessor = self.workers.get(self.slot_of_index.get(index, -1))
        if predecessor and has_ended(predecessor):
            self.memory.count_worker_restart()
        self.workers[slot], self.slot_of_index[index] = worker, slot


def load_and_count(load: Callable[[], Any], memory: MetricsMemory, slot: int) -> Any:
    """In the worker: load the application, and count in this slot."""
    close_inherited_listeners()
    take_slot(memory, slot)
    return load()
