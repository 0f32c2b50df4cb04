"""Arguments of functions, held to what they are for."""

from numbers import Real
from operator import index
from types import UnionType

from torch import Tensor

_LONGEST = 80  # characters of a value in a message


def shown(value: object) -> str:
    """A value for a message: as it is written, or of what type it is where that is long."""
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= _LONGEST and "\n" not in text else f"a {type(value).__name__}"


def check_type(name: str, value: object, kinds: type | UnionType, expected: str) -> None:
    """Refuse an argument of another type.

    Args:
        name: of the argument.
        value: what was given.
        kinds: what it may be.
        expected: the same for people, and what to do.

    Raises:
        ValueError: naming the argument and its value.
    """
    if not isinstance(value, kinds):
        raise ValueError(f"{name}: expected {expected}; got {shown(value)}")


def check_count(name: str, value: int, least: int = 1) -> int:
    """A whole number; one of NumPy becomes one of Python.

    Args:
        name: of the argument.
        value: what was given.
        least: what it may be at least.

    Raises:
        ValueError: naming the argument and its value, for anything else.
    """
    try:
        number = index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"{name}: expected a whole number, got {shown(value)}")
    if number < least:
        raise ValueError(f"{name}: must be at least {least}, got {number}")
    return number


def check_probability(name: str, value: object) -> None:
    """Refuse what is no number from 0 to 1.

    Raises:
        ValueError: naming the argument and its value.
    """
    if not (isinstance(value, Real) and 0 <= float(value) <= 1):
        raise ValueError(f"{name}: must be within 0...1, got {shown(value)}")
