"""Configurations as JSON: frozen dataclasses to plain data and back, with errors that name the field."""

import dataclasses
import difflib
import json
import os
import types
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from piip.checks import shown
from piip.files import atomic_path

T = TypeVar("T")

_TYPE = "type"  # which member of a union of dataclasses this is
_SHOWN = 12  # names in a hint
_PART = 3  # letters from which on a part of a name tells which is meant


class ConfigError(ValueError):
    """A configuration that cannot be read: the message names the field and the value."""


def suggestion(name: str, names: Collection[str]) -> str:
    """Return a hint for a mistyped name, `; did you mean 'x'?`, or nothing where no name is like it.

    It has the shortest names, three at most, that begin with what was typed, else those that have it somewhere, else
    the one that is spelt most like it. Capitals make no difference.
    """
    typed, spelt = name.lower(), {own.lower(): own for own in names}
    ranked = sorted(spelt, key=lambda own: (len(own), own))
    close = [typed] if typed in spelt else []
    if len(typed) >= _PART:
        close = close or [own for own in ranked if own.startswith(typed)] or [own for own in ranked if typed in own]
    close = close or difflib.get_close_matches(typed, ranked, n=1, cutoff=0.6)
    if not close:
        return ""
    *others, last = (repr(spelt[own]) for own in close[:3])
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def nearest(name: str, names: Collection[str]) -> str:
    """Return a hint for a mistyped name: what `suggestion` has, or the names there are, the first ones."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return suggestion(name, names) or f"; there are {', '.join(sorted(names)[:_SHOWN])}{more}"


def listing(names: Collection[str], limit: int = 10) -> str:
    """Return names for a message, the first ones and how many more there are: `'a', 'b' and 7 more`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in islice(names, limit)) + more


def to_dict(config: Any) -> Any:
    """Turn a dataclass tree into plain dicts, lists, numbers, strings; each dataclass records its `type`."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {_TYPE: type(config).__name__, **fields}
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_dict(value) for value in config]
    if isinstance(config, os.PathLike):
        return os.fspath(config)
    return config


def from_dict(kind: type[T], data: Any, where: str = "config") -> T:
    """Rebuild a dataclass of type `kind` from what `to_dict` made.

    Raises:
        ConfigError: for an unknown or missing field, or a value of the wrong type, naming it as `where.field`.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected the fields of {kind.__name__}, got {shown(data)}")
    tag = data.get(_TYPE, kind.__name__)
    if tag != kind.__name__:
        raise ConfigError(f"{where}.{_TYPE}: expected {kind.__name__!r}, got {tag!r}")
    hints = field_types(kind)
    for name in data:
        if name != _TYPE and name not in hints:
            raise ConfigError(f"{where}.{name}: {kind.__name__} has no such field{nearest(str(name), list(hints))}")
    fields = dataclasses.fields(cast(Any, kind))
    missing = [field.name for field in fields if _is_required(field) and field.name not in data]
    if missing:
        raise ConfigError(f"{where}.{missing[0]}: is missing; give {listing(missing)}")
    values = {name: _value(hints[name], data[name], f"{where}.{name}") for name in data if name != _TYPE}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:  # the class refuses a value
        raise ConfigError(f"{where}: {error}") from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def check_fields(config: Any, where: str = "") -> None:
    """Hold the fields of a dataclass to their annotations; for its `__post_init__`.

    A list where a tuple belongs becomes one, and a whole number a float. What is no choice of a `Literal` is refused,
    as is any other type. Where there are several dataclasses to choose from, any other one is taken as it is: what
    stands in for them, such as another architecture, need not be of their classes.

    Args:
        config: the dataclass; may be frozen.
        where: what stands before the name of the field in the message.

    Raises:
        ConfigError: naming the field, its value and what was expected.
    """
    for name, hint in field_types(type(config)).items():
        object.__setattr__(config, name, _value(hint, getattr(config, name), f"{where}{name}"))


def as_class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes, which may be in any sequence but a string, whose letters are none.

    Raises:
        ConfigError: for anything else.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigError(f"class_names: expected a list of names, got {shown(names)}")
    return tuple(names)


def check_class_names(class_names: Sequence[str], num_classes: int, field: str = "num_classes") -> None:
    """Refuse names of other classes than there are, or of several with one name; no name at all is right.

    Args:
        class_names: in the order of the labels.
        num_classes: how many there are.
        field: what tells that.

    Raises:
        ConfigError: naming the names.
    """
    if class_names and len(class_names) != num_classes:
        raise ConfigError(f"class_names: {len(class_names)} names, but {field} is {num_classes}")
    twice = [name for name, count in Counter(class_names).items() if count > 1]
    if twice:
        raise ConfigError(f"class_names: several classes are called {listing(twice)}; give each a name of its own")


def save_config(config: Any, path: Path) -> None:
    """Write a configuration as readable JSON; the file is replaced in one step."""
    text = json.dumps(to_dict(config), indent=2) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def load_config(kind: type[T], path: Path) -> T:
    """Read a configuration of type `kind`.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    return from_dict(kind, read_json(path), where=str(path))


def read_json(path: Path) -> Any:
    """Read a JSON file; `ConfigError` names the file when it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from error


def field_types(kind: type) -> dict[str, Any]:
    """The fields of a dataclass and their types."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _union(get_args(hint), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{where}: expected one of {', '.join(map(repr, get_args(hint)))}, got {value!r}")
        return value
    if origin is tuple:
        return _tuple(get_args(hint), value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key_hint, value_hint = get_args(hint)
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        return {_value(key_hint, key, where): _value(value_hint, item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        kind = hint if isinstance(hint, type) else type(hint)
        return value if isinstance(value, kind) else from_dict(kind, value, where)
    return _scalar(hint, value, where)


def _tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {shown(value)}")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise ConfigError(f"{where}: expected {len(hints)} values, got {len(value)}")
    return tuple(_value(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True)))


def _union(members: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in members:
        return None
    kinds = {kind.__name__: kind for kind in members if dataclasses.is_dataclass(kind) and isinstance(kind, type)}
    if isinstance(value, Mapping) and _TYPE in value:
        tag = value[_TYPE]
        if not isinstance(tag, str) or tag not in kinds:
            raise ConfigError(f"{where}.{_TYPE}: {tag!r} is not known here{nearest(str(tag), list(kinds))}")
        return from_dict(kinds[tag], value, where)
    if len(kinds) > 1 and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return value
    failures = []
    for member in members:
        try:
            return _value(member, value, where)
        except ConfigError as error:
            failures.append(str(error))
    if len(kinds) > 1 and not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected one of {', '.join(kinds)}, got {shown(value)}")
    raise ConfigError(failures[0])


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is type(None):
        expected = value is None
    else:
        expected = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if not expected:
        raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return value
