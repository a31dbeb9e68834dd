"""The functions and classes whose behaviour the fast path reproduces, registered one by one and compared by identity.

A subclass, a decorator or `as_view()` may replace a registered member. The replacement is another object, which is not
registered, so that `healthcare.fastpath` leaves the action to Django REST framework. If you edit a registered member in
place, change its counterpart in `healthcare.fastpath` in the same commit; the tests there compare both.
"""

from collections.abc import Hashable, Iterator
from functools import cached_property as functools_cached_property
from types import FunctionType
from typing import Any, TypeVar

from django.utils.functional import cached_property

Member = TypeVar("Member")

# The kinds of class attributes that are code. Functions, descriptors and classes are equal only to themselves.
CODE = (FunctionType, classmethod, staticmethod, property, cached_property, functools_cached_property)

_covered: set[Any] = set()
_members: dict[type, dict[str, Any]] = {}  # the code of each registered class, as it was registered


def covered_by_fast_path(member: Member) -> Member:
    """Register a function, a descriptor, or a class together with all the members it defines. A decorator, too."""
    _covered.add(member)
    if isinstance(member, type):
        _members[member] = code_of(member)
        _covered.update(value for value in vars(member).values() if isinstance(value, CODE))
    return member


def code_of(kind: type) -> dict[str, Any]:
    """The functions, descriptors and other callables among the attributes of a class itself."""
    return {name: value for name, value in vars(kind).items() if isinstance(value, CODE) or callable(value)}


def patched_members(kind: type) -> Iterator[tuple[type, str]]:
    """The members of registered classes in the MRO that were added, replaced or removed since the registration."""
    for base in kind.__mro__:
        if base in _members:
            now, registered = code_of(base), _members[base]
            yield from (
                (base, name) for name in sorted(now.keys() | registered) if now.get(name) is not registered.get(name)
            )


def is_covered(member: object) -> bool:
    """Whether exactly this object was registered."""
    return isinstance(member, Hashable) and member in _covered
