"""What the commands ask of a task, and the options that they hand on to it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
import tyro
from PIL import Image
from rich.table import Table

from piip.cli.console import MAX_WORKERS
from piip.config import nearest
from piip.hub import PretrainedModel

ModelT_contra = TypeVar("ModelT_contra", bound=PretrainedModel, contravariant=True)

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_IMAGES = tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="(at least one)")


@dataclass(frozen=True, kw_only=True)
class EvalArguments:
    """Score a model on a labelled dataset, with the model's own preprocessing."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of a trained model, or name of a model (see piip models)."""
    data: Annotated[Path, tyro.conf.arg(metavar="DATA")]
    """To classify: a folder with DATA/val/CLASS/*.jpg, the layout of ImageNet. To detect: a folder in the layout of
    COCO, or a JSON file {"val": {"annotations": FILE, "images": FOLDER}}."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights of a named model: ours (.safetensors) or an official checkpoint (.pth)."""
    split: str = "val"
    """Part of the dataset to score."""
    limit: int | None = None
    """Score so many images only, for a quick look: the first of a COCO file, evenly spaced ones of class folders."""
    batch_size: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 64 to classify, 1 to detect)")] = None
    """Images in a batch of one process."""
    num_workers: int = MAX_WORKERS
    """Processes that read images; 0 for none."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
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
        return _AUTOCAST[self.precision]


@dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Classify images or find the objects in them; print a table, write pictures and JSON."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of a trained model, or name of a model (see piip models)."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, _IMAGES]
    """Image files, and folders of them."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights of a named model: ours (.safetensors) or an official checkpoint (.pth)."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Write the images with their predictions to this folder."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the predictions as JSON to this file; - for standard output."""
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="(default: all)")] = ()
    """Look for these classes only."""
    top: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 5)")] = None
    """Of classifiers: how many classes to give for each image."""
    threshold: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: 0.5)")] = None
    """Of detectors: leave out what scores less, from 0 to 1."""
    batch_size: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 16 to classify, 1 to detect)")] = None
    """Images in a batch."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes the GPU where there is one."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The scores of an evaluation, for people and as JSON."""

    table: Table
    class_table: Table
    json: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation that is ready to begin.

    Attributes:
        num_images: how many there are, on all processes.
        summary: what was read of the dataset, a line; empty where there is nothing to say.
        problems: what is wrong with it, a line each.
        run: scores the model; is given what is to be called with the number of images that were done.
    """

    num_images: int
    summary: str = ""
    problems: Sequence[str] = ()
    run: Callable[[Callable[[int], None]], Report]


class Prediction(Protocol):
    """What was found in one image."""

    def rows(self) -> Sequence[tuple[str, ...]]:
        """The rows of the table, as rich's markup."""

    def as_json(self) -> Any:
        """What `write_json` can write."""

    def draw(self, image: Image.Image) -> Image.Image:
        """A picture of the image, with the prediction on it."""


class TaskCommands(Protocol, Generic[ModelT_contra]):
    """What the commands do for the models of one task.

    Attributes:
        name: what a message calls these models.
        unused: options that they have no use for.
        columns: of the table of predictions, beside the image.
    """

    name: ClassVar[str]
    unused: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]

    def open_evaluation(self, model: ModelT_contra, options: EvalArguments) -> Evaluation:
        """Open the dataset and get ready to score the model on it."""

    def predict(
        self, model: ModelT_contra, paths: Sequence[Path], options: PredictArguments
    ) -> Iterator[tuple[Path, Prediction]]:
        """Predict on image files, in their order."""

    def part_tables(self, config: Any, model: ModelT_contra) -> list[Table]:
        """What the model is made of."""


def refuse_unused(task: TaskCommands[Any], options: EvalArguments | PredictArguments) -> None:
    """Refuse options that were given though the task has no use for them.

    Raises:
        ValueError: naming the option and the model.
    """
    for name in task.unused:
        if getattr(options, name, None) is not None:
            raise ValueError(f"--{name}: {options.model} is a {task.name}, which has no use for it; leave it out")


def find_labels(chosen: Sequence[str], labels: Mapping[str, int]) -> list[int] | None:
    """The labels of the classes that were chosen; None, for all, where none was.

    Args:
        chosen: names of classes.
        labels: of all classes, by their names.

    Raises:
        ValueError: naming a class that the model does not have, and the nearest one.
    """
    unknown = [name for name in chosen if name not in labels]
    if unknown:
        hint = nearest(unknown[0], list(labels))
        raise ValueError(f"--classes: the model has no class {unknown[0]!r}{hint}")
    return list(dict.fromkeys(labels[name] for name in chosen)) or None
