"""Which samples go in which batch of which process, and with which random numbers.

Everything here is a pure function of a seed, an epoch and an index, so that a run gives the same samples whatever the
number of processes and loader workers, and goes on after an interruption as if there had been none.
"""

import hashlib
import random
import warnings
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch

# timm draws from NumPy's process-wide generator, so that one is seeded here, not a `numpy.random.Generator` of our own.
from numpy.random import mtrand as numpy_global_random
from torch.utils.data import Dataset, Sampler

from piip.images import ImageError

_TRIES = 10  # images in a row that may be damaged

_Item_co = TypeVar("_Item_co", covariant=True)


class IndexedDataset(Sized, Protocol[_Item_co]):
    """A dataset of known length whose items are read by their number."""

    def __getitem__(self, index: int, /) -> _Item_co:
        """Returns sample `index`."""
        ...


@dataclass(frozen=True, slots=True)
class SampleKey:
    """One visit to one sample: the same sample has another key, and so another augmentation, in each epoch."""

    epoch: int
    index: int


def derive_seed(*key: int | str) -> int:
    """Returns a 64-bit seed that is a pure function of `key`; different keys give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Makes the random draws of the enclosed code a pure function of `key`.

    Seeds the process-wide generators of Python, NumPy and PyTorch (CPU), and puts them back as they were afterwards, so
    that augmenting a sample in the training process does not disturb the draws of the model. Generators of accelerators
    are left alone.

    Args:
        key: What the draws shall depend on, for example `("augment", seed, epoch, index)`.
    """
    seed = derive_seed(*key)
    python_state = random.getstate()
    numpy_state = numpy_global_random.get_state(legacy=False)
    torch_state = torch.get_rng_state()
    try:
        random.seed(seed)
        numpy_global_random.seed([seed & 0xFFFFFFFF, seed >> 32])
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` would reseed the accelerators too
        yield
    finally:
        random.setstate(python_state)
        numpy_global_random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


class AugmentedDataset(Dataset[_Item_co]):
    """A dataset read by `SampleKey`, whose random augmentation depends on (seed, epoch, index) and on nothing else.

    A training of days must not end at one damaged file: where an image cannot be read, the sample after it takes its
    place, and a warning names the file.

    Args:
        dataset: Reads a sample by its index and augments it with the process-wide random generators.
        seed: Another seed gives another augmentation of every sample.
    """

    def __init__(self, dataset: IndexedDataset[_Item_co], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> _Item_co:
        """Reads and augments a sample.

        Raises:
            ImageError: If several images in a row cannot be read: then it is no matter of single files.
        """
        for index in range(key.index, key.index + _TRIES - 1):
            try:
                return self._read(key, index)
            except ImageError as error:
                warnings.warn(f"{error}; the next sample is taken in its place", stacklevel=2)
        return self._read(key, key.index + _TRIES - 1)

    def _read(self, key: SampleKey, index: int) -> _Item_co:
        with seeded("augment", self.seed, key.epoch, key.index):
            return self.dataset[index % len(self)]


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of one process, cut from a permutation of the dataset that all processes share.

    In each epoch the dataset is shuffled by (seed, epoch) and cut into global batches of `batch_size`; samples that do
    not fill a last batch are left out in this epoch. Each global batch is shared out over the processes in equal parts.

    Where a part has an even size, position `i` from its start and position `i` from its end are also mirror images in
    the global batch. Mixup, which blends a batch with its own reverse, thus pairs the same samples on any number of
    processes.

    For gradient accumulation a process can take its batches in several parts, one after the other; they are cut as
    those of so many more processes would be, so that accumulation changes nothing but the memory that is needed.

    Samples can be grouped, for example by whether their images are wide or high, so that a batch wastes little on
    padding. What is left out in an epoch is chosen without regard to groups. Each global batch is then of one group as
    far as there are samples; the remainders of the groups make up the few batches that are left, so that no group is
    too small to be trained on. Batches come in random order.

    Args:
        num_samples: Samples in the dataset.
        batch_size: Samples in a batch of all processes and parts together.
        rank: This process, counted from 0.
        world_size: Number of processes.
        parts: In how many parts each process takes its share of a batch.
        seed: Seed of the permutations.
        groups: The group of each sample; None for batches of any samples.

    Raises:
        ValueError: If there are fewer samples than a batch needs, if `batch_size` cannot be shared out equally, if
            `rank` is no process of `world_size`, or if there are not as many `groups` as samples.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        parts: int = 1,
        seed: int = 0,
        groups: Sequence[int] | None = None,
    ) -> None:
        _check_rank(rank, world_size)
        if parts < 1 or batch_size < 1 or batch_size % (world_size * parts):
            raise ValueError(
                f"batch_size={batch_size} cannot be shared out equally over world_size={world_size} processes"
                f"{f' in parts={parts} parts each' if parts != 1 else ''}: take a positive multiple of "
                f"{world_size * max(parts, 1)}"
            )
        if num_samples < batch_size:
            raise ValueError(
                f"num_samples={num_samples} do not fill one batch of batch_size={batch_size}, so nothing would be "
                f"trained: take a batch_size of at most {num_samples}, or add samples"
            )
        if groups is not None and len(groups) != num_samples:
            raise ValueError(f"groups: there must be one for each of num_samples={num_samples}, got {len(groups)}")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.parts = parts
        self.seed = seed
        self.groups = None if groups is None else np.asarray(groups)
        self.epoch = 0
        self.start_batch = 0

    @property
    def batches_per_epoch(self) -> int:
        """Batches in a whole epoch, whichever one iteration starts at; each comes in `parts` lists."""
        return self.num_samples // self.batch_size

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Chooses what the next iteration yields.

        Args:
            epoch: Decides the permutation, and is handed on to the dataset in each `SampleKey`.
            start_batch: Batches of this epoch to leave out because an interrupted run has done them.

        Raises:
            ValueError: If `epoch` is negative or the epoch has no batch `start_batch`.
        """
        if epoch < 0:
            raise ValueError(f"epoch={epoch} must not be negative")
        if not 0 <= start_batch <= self.batches_per_epoch:
            raise ValueError(
                f"start_batch={start_batch} is outside 0...{self.batches_per_epoch}, the batches of an epoch"
            )
        self.epoch = epoch
        self.start_batch = start_batch

    def __len__(self) -> int:
        return (self.batches_per_epoch - self.start_batch) * self.parts

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, start_batch = self.epoch, self.start_batch
        for indices in self._global_batches(epoch)[start_batch:]:
            for part in range(self.rank * self.parts, (self.rank + 1) * self.parts):
                yield [SampleKey(epoch, int(index)) for index in self._part(indices, part)]

    def _global_batches(self, epoch: int) -> np.ndarray:  # (batches_per_epoch, batch_size)
        random = np.random.default_rng(derive_seed("shuffle", self.seed, epoch))
        order = random.permutation(self.num_samples)[: self.batches_per_epoch * self.batch_size]
        if self.groups is None:
            return order.reshape(-1, self.batch_size)
        groups = [order[self.groups[order] == group] for group in np.unique(self.groups)]
        whole = np.concatenate([members[: len(members) // self.batch_size * self.batch_size] for members in groups])
        rest = order[~np.isin(order, whole)]
        return random.permutation(np.concatenate([whole, rest]).reshape(-1, self.batch_size))

    def _part(self, indices: np.ndarray, part: int) -> np.ndarray:
        size = self.batch_size // (self.world_size * self.parts)
        if size % 2:
            return indices[part * size : (part + 1) * size]
        half = size // 2
        start, stop = part * half, (part + 1) * half
        end = self.batch_size
        return np.concatenate([indices[start:stop], indices[end - stop : end - start]])


class ShardedSampler(Sampler[int]):
    """The indices that one process evaluates: over all processes, each index comes exactly once.

    Nothing is repeated to make the parts equally long, so they differ by up to one index.

    Args:
        num_samples: Samples in the dataset.
        rank: This process, counted from 0.
        world_size: Number of processes.

    Raises:
        ValueError: If `rank` is no process of `world_size`.
    """

    def __init__(self, num_samples: int, *, rank: int = 0, world_size: int = 1) -> None:
        _check_rank(rank, world_size)
        self.indices = range(rank, num_samples, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank={rank} is outside 0...{world_size - 1}, the processes of world_size={world_size}")
