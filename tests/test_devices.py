"""Devices that there are, and that there are not."""

import pytest
import torch

from piip.devices import check_device, require_weights


@pytest.mark.parametrize("name", ["cpu", "meta", torch.device("cpu")])
def test_devices_that_are_there(name: str | torch.device) -> None:
    assert check_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", r"^--device: 'gpu' cannot be used: Expected one of cpu, cuda, .*; there are cpu"),
        (torch.device("xla"), r"^--device: xla cannot be used: .*; there are cpu"),
        (1.5, r"^--device: 1\.5 cannot be used: it is none; there are cpu"),
    ],
)
def test_devices_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_device(name, "--device")
    assert "\n" not in str(caught.value)


def test_models_with_weights_pass() -> None:
    require_weights(torch.nn.Linear(3, 3), "predict")
    with pytest.raises(ValueError, match="predict: this model is on the meta device"):
        require_weights(torch.nn.Linear(3, 3, device="meta"), "predict")
