import math

import pytest
import torch
from accelerate import Accelerator

from piip.training.meter import StepMeter

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def add_step(meter, *losses, grad_norm=1.0):
    for loss in losses:
        meter.add_losses({"a": torch.tensor(loss), "b": torch.tensor(2 * loss)}, 1 / len(losses))
    meter.end_step(torch.tensor(grad_norm))


def test_means_over_parts_and_steps(accelerator):
    meter = StepMeter(check_grad_norm=True)
    add_step(meter, 1.0, 3.0, grad_norm=1.0)
    add_step(meter, 5.0, 5.0, grad_norm=2.0)
    reading = meter.read(accelerator)
    assert reading.losses == {"a": 3.5, "b": 7.0}
    assert (reading.grad_norm, reading.first_bad) == (1.5, None)
    assert meter.read(accelerator) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_first_bad_step_is_told(accelerator, bad):
    meter = StepMeter(check_grad_norm=True)
    for loss in (1.0, bad, 1.0, bad):
        add_step(meter, loss)
    assert meter.read(accelerator).first_bad == 1
    add_step(meter, 1.0)
    assert meter.read(accelerator).first_bad is None


def test_gradients_may_overflow_where_the_loss_scaler_skips_the_step(accelerator):
    for check in (True, False):
        meter = StepMeter(check_grad_norm=check)
        add_step(meter, 1.0, grad_norm=math.inf)
        assert (meter.read(accelerator).first_bad == 0) is check


def test_a_step_needs_losses():
    with pytest.raises(RuntimeError, match="no losses"):
        StepMeter(check_grad_norm=True).end_step(torch.tensor(1.0))
