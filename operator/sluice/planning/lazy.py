"""A property computed once per object.

``functools.cached_property`` takes a lock on every first access until Python 3.12, which costs a
small plan a fiftieth of its time. What is computed here is pure: computed twice it is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Owner = TypeVar("Owner")
Value = TypeVar("Value")


class lazy(Generic[Owner, Value]):  # noqa: N801 -- a decorator, like property
    """Replaces itself by its value in the object's ``__dict__``."""

    def __init__(self, compute: Callable[[Owner], Value]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, owner: Owner, kind: type[Owner]) -> Value:
        """The value; never called a second time for one object."""
        value = owner.__dict__[self._name] = self._compute(owner)
        return value
