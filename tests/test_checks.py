"""Arguments of other types, and numbers that are none."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from piip.checks import check_count, check_type, shown


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers(value: Any) -> None:
    number = check_count("top", value)
    assert type(number) is int
    assert number == 3


@pytest.mark.parametrize("value", [None, "3", 3.0, True, np.bool_(True), [3], torch.tensor(3.0), np.array([1, 2])])
def test_what_is_none(value: Any) -> None:
    with pytest.raises(ValueError, match=f"top: expected a whole number, got {re.escape(shown(value))}"):
        check_count("top", value)


def test_fewer_than_there_may_be() -> None:
    assert check_count("level", 0, least=0) == 0
    with pytest.raises(ValueError, match="level: must be at least 0, got -1"):
        check_count("level", -1, least=0)


def test_other_types() -> None:
    for value in (None, "all"):
        check_type("pattern", value, str | None, "a pattern")
    with pytest.raises(ValueError, match="pattern: expected a pattern; got 5"):
        check_type("pattern", 5, str | None, "a pattern")


def test_values_in_messages() -> None:
    assert shown("5") == "'5'"
    assert shown(None) == "None"
    assert shown(list(range(99))) == "a list"
    assert shown(torch.nn.Sequential(torch.nn.Identity())) == "a Sequential"
    assert shown(torch.zeros(2, 3)) == "a torch.float32 tensor of shape (2, 3)"
