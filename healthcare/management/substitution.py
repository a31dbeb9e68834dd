"""Replaces a class that a command of Django names in its module, where Django has no other hook for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def substituted(module: ModuleType, name: str, substitute: object) -> Iterator[None]:
    names = vars(module)
    original, names[name] = names[name], substitute
    try:
        yield
    finally:
        names[name] = original
