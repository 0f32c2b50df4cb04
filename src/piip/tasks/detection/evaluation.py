"""Evaluating a detector on a dataset in the format of COCO."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset

from piip.batches import ImageBatch, PreparedImage, collate_images
from piip.distributed import rank, world_size
from piip.files import atomic_path
from piip.hub import evaluating
from piip.images import ImageError, ImageWarning
from piip.sampling import ShardedSampler
from piip.tasks.detection.data import EvaluationSet
from piip.tasks.detection.metric import CocoResult, DetectionScores, coco_results, coco_tools, score_results
from piip.tasks.detection.structures import Detections
from piip.workers import init_worker


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: EvaluationSet,
    *,
    size_divisor: int,
    batch_size: int = 1,
    num_workers: int = 0,
    autocast: torch.dtype | None = None,
    results_file: Path | None = None,
    skip_unreadable: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> DetectionScores:
    """Score a detector on every image of a dataset, each counted once.

    Where `torch.distributed` is set up, the images are shared out over its processes, and all get the scores of all.

    Args:
        model: takes an `ImageBatch` and gives a list of `Detections`; on the device to compute on. Its training mode is
            restored.
        dataset: with the model's own preprocessing.
        size_divisor: of the model's preprocessing.
        batch_size: images in a batch of this process. With 1, as in the official release, no image is padded to the
            size of another one, which changes what is found a little.
        num_workers: processes that read images; 0 reads them in this one.
        autocast: the type to compute in where that is safe, or None for float32.
        results_file: gets all detections, as JSON in COCO's format, from the first process.
        skip_unreadable: leave out images that cannot be read, and their objects, with a warning that names them.
        progress: called with the number of images that were done since the last call, on this process.

    Raises:
        ImageError: for an image that cannot be read, naming it; with `skip_unreadable`, when none can be read.
        ImportError: when faster-coco-eval is not installed.
        ValueError: for batches of nothing, or a negative number of workers.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ValueError(f"{name}: must be at least {least}, got {value}")
    coco_tools()  # so that the lack of them is told now, and not when all is done
    device = next(model.parameters()).device
    shard = list(ShardedSampler(len(dataset), rank=rank(), world_size=world_size()))
    chunks = [shard[start : start + batch_size] for start in range(0, len(shard), batch_size)]
    loader = DataLoader(
        _Readable(dataset) if skip_unreadable else dataset,
        batch_sampler=chunks,
        num_workers=num_workers,
        worker_init_fn=init_worker,
        collate_fn=partial(_collate, size_divisor=size_divisor),
    )
    share = _Share()
    with evaluating(model):
        for indices, (places, batch) in zip(chunks, loader, strict=True):
            found: list[Detections] = []
            if batch is not None:
                with torch.autocast(device.type, autocast, enabled=autocast is not None):
                    found = model(batch._replace(pixels=batch.pixels.to(device)))
            for place, detections in zip(places, found, strict=True):
                share.add(dataset, dataset.images[indices[place]], detections)
            progress(len(indices))
    return _score_everywhere(dataset, share, results_file)


@dataclass
class _Share:
    """What one process has found: the images that it has read, and the results in them."""

    images: list[int] = field(default_factory=list)
    results: list[CocoResult] = field(default_factory=list)
    with_masks: bool = False

    def add(self, dataset: EvaluationSet, image: int, detections: Detections) -> None:
        self.images.append(image)
        self.results += coco_results(dataset.annotations, image, detections)
        self.with_masks |= detections.mask_probs is not None


class _Readable(Dataset[PreparedImage | None]):
    """Gives None for images that cannot be read, with a warning."""

    def __init__(self, dataset: EvaluationSet) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> PreparedImage | None:
        try:
            return self.dataset[index]
        except ImageError as error:
            warnings.warn(f"{error}; it is left out of the evaluation", ImageWarning, stacklevel=2)
            return None


def _collate(images: Sequence[PreparedImage | None], size_divisor: int) -> tuple[list[int], ImageBatch | None]:
    """The places of the images that could be read, and a batch of them."""
    readable = {place: image for place, image in enumerate(images) if image is not None}
    return list(readable), collate_images(list(readable.values()), size_divisor) if readable else None


def _score_everywhere(dataset: EvaluationSet, share: _Share, results_file: Path | None) -> DetectionScores:
    """Gathers the results of all processes in the first one, which scores them and tells the others."""
    parts: list[_Share | None] = [None] * world_size()
    parts[0] = share
    if world_size() > 1:
        dist.gather_object(share, parts if rank() == 0 else None)
    scores: list[DetectionScores | None] = [None]
    if rank() == 0:
        gathered = [part for part in parts if part is not None]
        images = sorted(image for part in gathered for image in part.images)
        everything = [result for part in gathered for result in part.results]
        everything.sort(key=lambda result: result["image_id"])  # stable: the same on any number of processes
        if results_file is not None:
            with atomic_path(results_file) as temporary:
                temporary.write_text(json.dumps(everything), encoding="utf-8")
        if images:
            with_masks = any(part.with_masks for part in gathered)
            scores[0] = score_results(dataset.annotations, images, everything, with_masks=with_masks)
    if world_size() > 1:
        dist.broadcast_object_list(scores)
    if scores[0] is None:
        raise ImageError(f"{dataset.annotations.file}: none of the {len(dataset)} images to evaluate on can be read")
    return scores[0]
