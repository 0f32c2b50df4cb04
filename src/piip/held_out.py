"""The images that models are evaluated on, in batches: each once, shared out over the processes."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

from piip.checks import check_count
from piip.distributed import rank, sum_of_processes, world_size
from piip.images import ImageError, ImageWarning
from piip.sampling import IndexedDataset, ShardedSampler
from piip.workers import init_worker

SampleT = TypeVar("SampleT")
BatchT = TypeVar("BatchT")


def held_out_batches(
    dataset: IndexedDataset[SampleT],
    collate: Callable[[list[SampleT]], BatchT],
    *,
    batch_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
    skip_unreadable: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[list[int], BatchT]]:
    """Read the images of this process.

    An evaluation for its own sake must be one of all images. One in the midst of a training of days must not end it at
    a few damaged files: it can leave them out.

    Args:
        dataset: of all processes.
        collate: makes a batch of samples.
        batch_size: images in a batch.
        num_workers: processes that read images; 0 reads them in this one.
        pin_memory: whether to read into memory that a GPU copies from while it computes.
        skip_unreadable: leave out images that cannot be read, with a warning that names them, and in the end one that
            tells how many remain.
        progress: called when a batch is done, with the number of its images, those that were left out too.

    Yields:
        Numbers of images in the dataset, and a batch of these.

    Raises:
        ImageError: for an image that cannot be read, naming it; with `skip_unreadable`, if no process can read any.
        ValueError: for batches of nothing, or a negative number of workers.
    """
    batch_size, num_workers = check_count("batch_size", batch_size), check_count("num_workers", num_workers, least=0)
    share = list(ShardedSampler(len(dataset), rank=rank(), world_size=world_size()))
    chunks = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
    loader = DataLoader(
        _Samples(dataset, skip_unreadable),
        batch_sampler=chunks,
        num_workers=num_workers,
        worker_init_fn=init_worker,
        collate_fn=partial(_collate, collate=collate),
        pin_memory=pin_memory,
    )
    num_read = 0
    for chunk, (places, batch) in zip(chunks, loader, strict=True):
        if batch is not None:
            yield [chunk[place] for place in places], batch
        num_read += len(places)
        progress(len(chunk))
    if skip_unreadable:
        _tell_left_out(sum_of_processes(num_read), len(dataset))


def warn_left_out(error: ImageError) -> None:
    """Tell of an image that cannot be read."""
    warnings.warn(f"{error}; it is left out of the evaluation", ImageWarning, stacklevel=3)


class _Samples(Dataset[SampleT | None]):
    """The samples of a dataset; if they may be left out, None for those that cannot be read, with a warning."""

    def __init__(self, dataset: IndexedDataset[SampleT], skip_unreadable: bool) -> None:
        self.dataset = dataset
        self.skip_unreadable = skip_unreadable

    def __getitem__(self, index: int) -> SampleT | None:
        try:
            return self.dataset[index]
        except ImageError as error:
            if not self.skip_unreadable:
                raise
            warn_left_out(error)
            return None


def _collate(
    samples: Sequence[SampleT | None], collate: Callable[[list[SampleT]], BatchT]
) -> tuple[list[int], BatchT | None]:
    """The places of the samples that could be read, and a batch of them."""
    readable = {place: sample for place, sample in enumerate(samples) if sample is not None}
    return list(readable), collate(list(readable.values())) if readable else None


def _tell_left_out(num_read: int, num_images: int) -> None:
    if not num_read:
        raise ImageError(f"none of the {num_images} images to evaluate on can be read; the warnings tell why")
    if num_read < num_images and rank() == 0:
        text = f"scored on {num_read} of {num_images} held-out images: the others cannot be read"
        warnings.warn(text, ImageWarning, stacklevel=3)
