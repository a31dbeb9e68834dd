"""The functions and classes whose behaviour the fast path reproduces, registered one by one and compared by identity.

A subclass, a decorator or `as_view()` may replace a registered member. The replacement is another object, which is not
registered, so that `healthcare.fastpath` leaves the action to Django REST framework. If you edit a registered member in
place, change its counterpart in `healthcare.fastpath` in the same commit; the tests there compare both.
"""

import functools
import sys
from collections.abc import Hashable, Iterator
from functools import cached_property as functools_cached_property
from types import FunctionType
from typing import Any, TypeVar

from django.utils.functional import cached_property

Member = TypeVar("Member")

LIBRARIES = {"django", "django_filters", "rest_framework", "rest_framework_simplejwt"}

# The kinds of class attributes that are code. Functions, descriptors and classes are equal only to themselves.
CODE = (FunctionType, classmethod, staticmethod, property, cached_property, functools_cached_property)

# Other class attributes by which a field, a renderer or a pagination is configured.
VALUES = {
    "charset",
    "compact",
    "encoder_class",
    "ensure_ascii",
    "format",
    "input_formats",
    "key",
    "media_type",
    "strict",
}

_covered: set[Any] = set()
# The code of each registered class, as it was registered, without what had been patched into a library before that.
_members: dict[type, dict[str, Any]] = {}


def covered_by_fast_path(member: Member) -> Member:
    """Register a function, a descriptor, or a class together with all the members it defines. A decorator, too."""
    _covered.add(member)
    if isinstance(member, type):
        _members[member] = {name: value for name, value in code_of(member).items() if is_original(member, value)}
        _covered.update(value for value in _members[member].values() if isinstance(value, CODE))
    return member


def code_of(kind: type) -> dict[str, Any]:
    """The functions, descriptors and other callables among the attributes of a class itself, and its VALUES."""
    return {
        name: value
        for name, value in vars(kind).items()
        if isinstance(value, CODE) or callable(value) or name in VALUES
    }


def is_original(kind: type, value: Any) -> bool:
    """Whether a member of a library's class stands in the file of the class. Another package may have patched it."""
    function = getattr(value, "__func__", None) or getattr(value, "fget", None) or getattr(value, "func", value)
    if kind.__module__.partition(".")[0] not in LIBRARIES or not isinstance(function, FunctionType):
        return True
    # `functools.total_ordering` writes some of the comparisons.
    return function.__code__.co_filename in {sys.modules[kind.__module__].__file__, functools.__file__}


def patched_members(kind: type) -> Iterator[tuple[type, str]]:
    """The members of registered classes in the MRO that were added, replaced or removed, whether before or since the
    registration."""
    for base in kind.__mro__:
        if base in _members:
            now, registered = code_of(base), _members[base]
            yield from (
                (base, name) for name in sorted(now.keys() | registered) if now.get(name) is not registered.get(name)
            )


def is_covered(member: object) -> bool:
    """Whether exactly this object was registered."""
    return isinstance(member, Hashable) and member in _covered
