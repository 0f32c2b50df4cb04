"""What the commands ask of a task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from PIL import Image
from rich.table import Table

from piip.cli.tasks.arguments import EvalArguments, PredictArguments
from piip.config import nearest
from piip.hub import PretrainedModel
from piip.images import ImageError

Skip = Callable[[Path, ImageError], None]
"""Is told which image cannot be read, and why."""

ModelT_contra = TypeVar("ModelT_contra", bound=PretrainedModel, contravariant=True)


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

    def draw_labels(self) -> Image.Image | None:
        """The label of each pixel as a palette image; None of a task without them."""


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
        self, model: ModelT_contra, paths: Sequence[Path], options: PredictArguments, skip: Skip
    ) -> Iterator[tuple[Path, Prediction]]:
        """Predict on image files, in their order, but for those that `skip` is told of."""

    def part_tables(self, config: Any, model: ModelT_contra) -> list[Table]:
        """What the model is made of."""


def refuse_unused(task: TaskCommands[Any], options: EvalArguments | PredictArguments) -> None:
    """Refuse options that were given though the task has no use for them.

    Raises:
        ValueError: naming the option and the model.
    """
    for name in task.unused:
        if getattr(options, name, None) is not None:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option}: {options.model} is a {task.name}, which has no use for it; leave it out")


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
