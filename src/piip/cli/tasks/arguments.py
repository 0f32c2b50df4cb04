"""The options of the commands that are the same for all tasks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from piip.cli.console import MAX_WORKERS
from piip.precision import AUTOCAST, Precision

_IMAGES = tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="(at least one)")


def _batch_size(classification: int) -> Any:
    hint = f"(default: {classification} to classify, 1 to detect; segmentors take them one by one)"
    return tyro.conf.arg(metavar="N", help_behavior_hint=hint)


@dataclass(frozen=True, kw_only=True)
class EvalArguments:
    """Score a model on a labelled dataset, with the model's own preprocessing."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of a trained model, or name of a model (see piip models)."""
    data: Annotated[Path, tyro.conf.arg(metavar="DATA")]
    """To classify: a folder with DATA/val/CLASS/*.jpg, the layout of ImageNet. To detect: a folder in the layout of
    COCO, or a JSON file {"val": {"annotations": FILE, "images": FOLDER}}. To segment: a folder in the layout of ADE20K,
    or a JSON file {"class_names": [...], "splits": {"val": {"images": FOLDER, "masks": FOLDER}}}."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="official|FILE")] = None
    """Weights of a named model: official fetches those of the release; or a file, ours (.safetensors) or an official
    checkpoint (.pth)."""
    split: str = "val"
    """Part of the dataset to score."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """Score so many images only, for a quick look: the first of a COCO file, evenly spaced ones of folders."""
    batch_size: Annotated[int | None, _batch_size(64)] = None
    """Images in a batch of one process."""
    num_workers: int = MAX_WORKERS
    """Processes that read images; 0 for none."""
    precision: Precision = "fp32"
    """Arithmetic; the official evaluation of classifiers is fp16."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes the GPU where there is one."""
    per_class: bool = False
    """Show the score of each class too."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the scores as JSON to this file, those of the classes by their names; - for standard output."""
    results: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Of detectors: write everything found to this file, in COCO's result format."""

    @property
    def autocast(self) -> torch.dtype | None:
        """The type to compute in where that is safe."""
        return AUTOCAST[self.precision]


@dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Classify images, find objects or label pixels: a table, pictures, JSON."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of a trained model, or name of a model (see piip models)."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, _IMAGES]
    """Image files, and folders of them."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="official|FILE")] = None
    """Weights of a named model: official fetches those of the release; or a file, ours (.safetensors) or an official
    checkpoint (.pth)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write the images with their predictions to this folder; of segmentors, the label maps to its folder labels."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the predictions as JSON to this file; - for standard output."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="(default: all)")] = ()
    """Look for these classes only."""
    top: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: 5)")] = None
    """Of classifiers: how many classes to give for each image."""
    threshold: Annotated[float | None, tyro.conf.arg(metavar="SCORE", help_behavior_hint="(default: 0.5)")] = None
    """Of detectors: leave out what scores less, from 0 to 1. A Mask R-CNN itself leaves out what is below 0.05."""
    batch_size: Annotated[int | None, _batch_size(16)] = None
    """Images in a batch."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes the GPU where there is one."""
