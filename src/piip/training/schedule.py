"""How the learning rate changes during training: pure functions of the position, so that nothing has to be saved."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A decay over the whole training, times a linear warmup at its beginning.

    Attributes:
        warmup_epochs: length of the warmup, in epochs (parts of epochs count); 0 for none.
        warmup_steps: its length in optimizer steps instead, whatever the size of the data.
        warmup_start: factor that the warmup starts from.
    """

    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    warmup_start: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a warmup that there cannot be."""
        if not 0 <= self.warmup_epochs < math.inf:
            raise ValueError(f"schedule.warmup_epochs: must not be negative, got {self.warmup_epochs}")
        if self.warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps: must not be negative, got {self.warmup_steps}")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError(
                f"schedule.warmup_steps: is {self.warmup_steps}, and schedule.warmup_epochs {self.warmup_epochs:g}; "
                f"set one of them to 0"
            )
        if not 0 <= self.warmup_start <= 1:
            raise ValueError(f"schedule.warmup_start: must be within 0 to 1, got {self.warmup_start}")

    def factor(self, step: int, num_steps: int, steps_per_epoch: int) -> float:
        """What the base learning rate is multiplied by in an optimizer step.

        A step has the factor of its middle: so the first of a warmup from 0 trains something, and so does the last of a
        decay to 0.

        Args:
            step: counted from 0.
            num_steps: length of the training.
            steps_per_epoch: steps in an epoch.
        """
        middle = step + 0.5
        length = self.warmup_steps or self.warmup_epochs * steps_per_epoch
        warmup = min(middle / length, 1.0) if length else 1.0
        return (self.warmup_start + (1 - self.warmup_start) * warmup) * self.decay(middle / num_steps)

    def check_length(self, num_steps: int, steps_per_epoch: int) -> None:
        """Refuse a warmup that is not over before the training ends.

        Raises:
            ValueError: with the lengths of both.
        """
        if self.warmup_steps >= num_steps:
            raise ValueError(
                f"training.schedule.warmup_steps: is {self.warmup_steps}, and must be less than the {num_steps} steps "
                f"of the training"
            )
        if self.warmup_epochs * steps_per_epoch >= num_steps:
            raise ValueError(
                f"training.schedule.warmup_epochs: is {self.warmup_epochs:g}, and must be less than the "
                f"{num_steps / steps_per_epoch:g} epochs of the training"
            )

    @abstractmethod
    def decay(self, done: float) -> float:
        """The factor apart from the warmup, when a part `done` (0 to 1) of the training is done."""


@dataclass(frozen=True, kw_only=True)
class CosineSchedule(Schedule):
    """Half a period of the cosine (arXiv 1608.03983, without restarts).

    Attributes:
        final: factor at the end.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a final factor that there cannot be."""
        super().__post_init__()
        _check_final(self.final)

    def decay(self, done: float) -> float:
        """From 1, slowly at first and at last, to `final`."""
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class PolynomialSchedule(Schedule):
    """A power of the part of the training that remains.

    Attributes:
        power: 1 for a straight line.
        final: factor at the end.
    """

    power: float = 1.0
    final: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what does not decay."""
        super().__post_init__()
        _check_final(self.final)
        if not 0 < self.power < math.inf:
            raise ValueError(f"schedule.power: must be positive, got {self.power}")

    def decay(self, done: float) -> float:
        """From 1 to `final`."""
        return self.final + (1 - self.final) * max(1 - done, 0.0) ** self.power


@dataclass(frozen=True, kw_only=True)
class StepSchedule(Schedule):
    """Constant, but multiplied by `gamma` at some points.

    Attributes:
        milestones: the points, as parts of the training (8/12 is after 8 of 12 epochs); none for a constant rate.
        gamma: the factor at each.
    """

    milestones: tuple[float, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Refuse milestones outside the training or out of order."""
        super().__post_init__()
        bounded = (0.0, *self.milestones, 1.0)
        if any(late <= early for early, late in pairwise(bounded)):
            raise ValueError(f"schedule.milestones: must increase, between 0 and 1, got {self.milestones}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"schedule.gamma: must be above 0 and at most 1, got {self.gamma}")

    def decay(self, done: float) -> float:
        """`gamma` to the number of milestones that are behind."""
        return self.gamma ** sum(done > milestone for milestone in self.milestones)


AnySchedule = CosineSchedule | PolynomialSchedule | StepSchedule


def _check_final(final: float) -> None:
    if not 0 <= final <= 1:
        raise ValueError(f"schedule.final: must be within 0 to 1, got {final}")
