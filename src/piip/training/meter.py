"""Losses and gradient norms, added up on the device so that no step waits for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

_NEVER = float(2**20)  # steps between two readings; float32 counts them exactly


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What happened since the last reading, on all processes.

    Attributes:
        losses: mean of each loss over the steps.
        grad_norm: mean norm of the gradients, before clipping.
        first_bad: which of the steps, counted from 0, was the first with a value that is not finite; None if none was.
    """

    losses: dict[str, float]
    grad_norm: float
    first_bad: int | None


class StepMeter:
    """Adds up losses and gradient norms.

    Args:
        check_grad_norm: whether an infinite gradient is a failure; in fp16 it is not, because the loss scaler skips
            such steps.
    """

    def __init__(self, check_grad_norm: bool) -> None:
        self._check_grad_norm = check_grad_norm
        self._reset()

    def _reset(self) -> None:
        self.steps = 0
        self._names: tuple[str, ...] = ()
        self._step: Tensor | None = None  # (losses,)
        self._sum: Tensor | None = None  # (losses + 1,): with the gradient norm at the end
        self._first_bad: Tensor | None = None

    def add_losses(self, losses: Mapping[str, Tensor], share: float) -> None:
        """Add the losses of a part of a step that makes up this share of it."""
        self._names = tuple(losses)
        values = share * torch.stack([loss.detach().float() for loss in losses.values()])
        self._step = values if self._step is None else self._step + values

    def end_step(self, grad_norm: Tensor) -> None:
        """End a step, to which losses have been added."""
        if self._step is None:
            raise RuntimeError("no losses were added to this step")
        values = torch.cat([self._step, grad_norm.detach().float().reshape(1)])
        checked = values if self._check_grad_norm else self._step
        if self._sum is None or self._first_bad is None:
            self._sum, self._first_bad = torch.zeros_like(values), values.new_full((1,), _NEVER)
        self._sum = self._sum + values
        bad = torch.where(checked.isfinite().all(), _NEVER, float(self.steps))
        self._first_bad = torch.minimum(self._first_bad, bad)
        self._step = None
        self.steps += 1

    def read(self, accelerator: Accelerator) -> Reading | None:
        """Collect from all processes, which must all call this, and start anew; None when there was no step."""
        if self._sum is None or self._first_bad is None:
            return None
        own = torch.cat([self._sum / self.steps, self._first_bad])
        rows: list[list[float]] = accelerator.gather(own[None]).tolist()
        first_bad = min(row[-1] for row in rows)
        *losses, grad_norm = [sum(column) / len(rows) for column in zip(*(row[:-1] for row in rows), strict=True)]
        reading = Reading(
            losses=dict(zip(self._names, losses, strict=True)),
            grad_norm=grad_norm,
            first_bad=None if first_bad == _NEVER else int(first_bad),
        )
        self._reset()
        return reading
