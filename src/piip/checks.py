"""Arguments of functions, held to what they are for."""

from operator import index


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
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: must be at least {least}, got {number}")
    return number
