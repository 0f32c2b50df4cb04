"""How a model is trained, apart from what its task adds."""

from dataclasses import dataclass, field

from piip.config import check_fields
from piip.precision import Precision
from piip.training.optimizer import OptimizerConfig
from piip.training.schedule import AnySchedule, CosineSchedule


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What the training loop does.

    Attributes:
        epochs: length of the training in passes over the data; None for one in steps.
        steps: its length in optimizer steps, whatever the size of the data; None for one in epochs.
        batch_size: samples in an optimizer step, over all processes.
        accumulation: in how many parts each process computes its share of a batch, to save memory. The result is that
            of one part, but for what each part has of its own: drop path and dropout; of detectors, the number of
            objects that losses are divided by and the size that images are padded to (each process pads to its own
            size, too); of segmentors, the statistics of batch norms.
        optimizer: AdamW's settings.
        schedule: how the learning rate changes.
        clip_grad_norm: largest norm of all gradients together; None for no clipping.
        ema_decay: keep an exponential moving average of the weights with this decay, and evaluate and save that; None
            for none.
        precision: arithmetic of the forward pass; weights and optimizer stay fp32.
        seed: of the order and augmentation of the data, and of drop path.
        num_workers: processes that load data, for each training process; 0 for none.
        evaluate_every: epochs between evaluations, or steps where the length is told in steps; None for 1 epoch, or a
            tenth of the steps. The end is always followed by one.
        checkpoint_every: optimizer steps between checkpoints; there is one before each evaluation in any case, and at
            the end of each epoch where the length is told in epochs.
        keep_checkpoints: how many checkpoints to keep.
        log_every: optimizer steps between entries of the log.
    """

    epochs: int | None = None
    steps: int | None = None
    batch_size: int
    optimizer: OptimizerConfig
    accumulation: int = 1
    schedule: AnySchedule = field(default_factory=CosineSchedule)
    clip_grad_norm: float | None = None
    ema_decay: float | None = None
    precision: Precision = "fp32"
    seed: int = 0
    num_workers: int = 4
    evaluate_every: int | None = None
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 10

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        check_fields(self, "training.")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"training.epochs: is {self.epochs}, and training.steps {self.steps}; give one of them, and None for "
                f"the other"
            )
        for name in (
            *("epochs", "steps", "batch_size", "accumulation", "evaluate_every"),
            *("checkpoint_every", "keep_checkpoints", "log_every"),
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"training.{name}: must be at least 1, got {value}")
        for name in ("seed", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name}: must not be negative, got {getattr(self, name)}")
        if self.clip_grad_norm is not None and not self.clip_grad_norm > 0:
            raise ValueError(f"training.clip_grad_norm: must be positive, or none, got {self.clip_grad_norm}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"training.ema_decay: must be at least 0 and below 1, or none, got {self.ema_decay}")

    def num_steps(self, steps_per_epoch: int) -> int:
        """The length of the training, in optimizer steps."""
        return self._in_steps(self.epochs or self.steps or 0, steps_per_epoch)

    def evaluation_interval(self, steps_per_epoch: int) -> int:
        """Optimizer steps between evaluations."""
        if self.evaluate_every is None:
            return steps_per_epoch if self.steps is None else max(1, self.steps // 10)
        return self._in_steps(self.evaluate_every, steps_per_epoch)

    def checkpoint_interval(self, steps_per_epoch: int) -> int:
        """Optimizer steps between the checkpoints that there are in any case, beside that at the end."""
        return steps_per_epoch if self.epochs else self.evaluation_interval(steps_per_epoch)

    def _in_steps(self, length: int, steps_per_epoch: int) -> int:
        return length * steps_per_epoch if self.epochs else length
