"""Reading the constructor arguments of the official release: known names only, no guessed defaults."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from piip.config import ConfigError, nearest

T = TypeVar("T")

_REQUIRED = object()


class Arguments:
    """The keyword arguments of one official class, which must all be read.

    Args:
        values: the arguments.
        where: what they belong to, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where}: expected a dict of constructor arguments, got {values!r}")
        self._values = dict(values)
        self._read: set[str] = set()
        self.where = where

    def get(self, name: str, kind: type[T] | tuple[type[T], ...], default: Any = _REQUIRED) -> Any:
        """Read one argument of type `kind`.

        Raises:
            ConfigError: when it is missing and has no default, or is of another type.
        """
        value = self._take(name, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if name not in self._values or (float in kinds and type(value) is int):
            return value
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(f"{self.where}.{name}: expected {names}, got {value!r}")
        return value

    def _take(self, name: str, default: Any) -> Any:
        self._read.add(name)
        if name not in self._values and default is _REQUIRED:
            unread = [key for key in self._values if key not in self._read]
            close = difflib.get_close_matches(name, unread, n=1)
            hint = f" (is {close[0]!r} meant to be it?)" if close else ""
            raise ConfigError(f"{self.where}.{name}: is missing{hint}; the official configurations always give it")
        return self._values.get(name, default)

    def choose(self, name: str, choices: Mapping[Any, T], default: Any = _REQUIRED) -> T:
        """Read one argument that has a few known values, and translate it.

        Raises:
            ConfigError: when it is missing and has no default, or has another value.
        """
        value = self._take(name, default)
        for choice, meaning in choices.items():
            if value == choice and type(value) is type(choice):
                return meaning
        raise ConfigError(f"{self.where}.{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")

    def part(self, name: str, kind: str | None = None) -> "Arguments":
        """Read the arguments of a part, whose `type` is this one where it is told."""
        part = Arguments(self.get(name, Mapping), f"{self.where}.{name}")
        if kind is not None:
            part.expect("type", kind)
        return part

    def expect(self, name: str, expected: Any, default: Any = _REQUIRED) -> None:
        """Read what has one possible value; numbers may be written as int or float, tuples as lists.

        Raises:
            ConfigError: when it is missing and has no default, or has another value.
        """
        value = self._take(name, default)
        if (list(value) if isinstance(value, tuple) else value) != expected:
            raise ConfigError(f"{self.where}.{name}: expected {expected!r}, got {value!r}")

    def number(self, name: str) -> float:
        """Read one number."""
        return float(self.get(name, float))

    def each(self, name: str, kind: type, default: Any, count: int) -> Sequence[Any]:
        """Read one argument that has one value of type `kind`, or one for each of `count` blocks.

        Raises:
            ConfigError: when there are not so many values, or one is of another type.
        """
        value = self.get(name, (kind, list, tuple), default)
        if not isinstance(value, list | tuple):
            return [value] * count
        if len(value) != count:
            raise ConfigError(f"{self.where}.{name}: {len(value)} values, but depth is {count}")
        if any(type(one) is not kind for one in value):
            raise ConfigError(f"{self.where}.{name}: expected {kind.__name__} for each block, got {list(value)}")
        return value

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Say in errors of our configurations that these arguments are meant."""
        try:
            yield
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"{self.where}: {error}") from error

    def ignore(self, *names: str) -> None:
        """Accept arguments that have no effect on what is computed."""
        self._read.update(names)

    def finish(self) -> None:
        """Refuse arguments that nothing has read.

        Raises:
            ConfigError: naming them all.
        """
        unknown = [name for name in self._values if name not in self._read]
        if unknown:
            hint = nearest(unknown[0], sorted(self._read)) if len(unknown) == 1 else ""
            raise ConfigError(f"{self.where}: not known: {', '.join(unknown)}{hint}")
