"""What the training loop asks of a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from piip.hub import PretrainedModel
from piip.sampling import IndexedDataset
from piip.training.recipe import TrainingConfig

NUM_IMAGES = "num_images"
"""Among the figures of an evaluation of fewer images than there are: of how many."""

ModelT = TypeVar("ModelT", bound=PretrainedModel)


class Task(ABC, Generic[ModelT]):
    """A model, its data, and how both come together.

    Attributes:
        model: what is trained, in fp32; anywhere.
        recipe: the whole recipe, a dataclass; it is saved beside the checkpoints.
        training: the part of the recipe that is for the loop.
        train_data: samples, augmented with the process-wide random generators.
        groups: the group of each of them, such as landscape or portrait, for batches of samples of one group; None for
            batches of any. See `piip.sampling.EpochBatchSampler`.
        num_val: held-out samples.
        score: which figure of `evaluate` tells the best model: the higher, the better.
        data_summary: lines for people about what was read, and what was wrong with it; may be empty.
    """

    model: ModelT
    recipe: Any
    training: TrainingConfig
    train_data: IndexedDataset[Any]
    groups: Sequence[int] | None = None
    num_val: int
    score: str
    data_summary: Sequence[str] = ()

    @abstractmethod
    def collate(self, samples: Sequence[Any]) -> Any:
        """Make a batch of samples: tensors in any nesting of lists, tuples and dicts."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, key: tuple[int, ...]) -> dict[str, Tensor]:
        """Compute the losses (scalars, means over the batch), whose sum is minimised, and is `loss` in the log.

        Whatever is in the batch, they must depend on the same parameters (an empty loss is a sum of nothing, not a
        constant): those that the first one does not depend on are frozen.

        Args:
            model: `self.model`, as it is wrapped for training.
            batch: on the device of the model.
            key: tells this optimizer step from others; what is drawn for the whole batch depends on nothing else.
        """

    @abstractmethod
    def evaluate(
        self, model: ModelT, *, autocast: torch.dtype | None, progress: Callable[[int], None]
    ) -> dict[str, float]:
        """Score a model of the same kind on the held-out samples, shared out over the processes.

        Each process does the samples that `piip.sampling.ShardedSampler` gives it, and tells `progress` of them all
        before it exchanges anything with the others: that is where they agree to go on, or to stop.

        Args:
            model: on the device to compute on.
            autocast: the type to compute in where that is safe, or None for fp32.
            progress: called with the number of samples that were done since the last call, on this process.

        Returns:
            Figures by their names, and `NUM_IMAGES` if not all samples could be read.
        """

    def figures_of(self, num_images: int, figures: dict[str, float]) -> dict[str, float]:
        """Figures of so many images, which tell so if there are more."""
        return figures | ({NUM_IMAGES: num_images} if num_images < self.num_val else {})
