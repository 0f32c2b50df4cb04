"""What the commands do for classifiers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from PIL import Image
from rich.markup import escape
from rich.table import Table

from piip.cli.tasks.arguments import EvalArguments, PredictArguments
from piip.cli.tasks.base import Evaluation, Report, Skip, find_labels
from piip.cli.tasks.parts import branch_table, input_row, interaction_row, millions
from piip.draw import annotate_classification
from piip.tasks.classification.data import ImageFolder, open_image_folder
from piip.tasks.classification.evaluation import evaluate
from piip.tasks.classification.metric import ClassificationScores
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.tasks.classification.names import readable_name
from piip.tasks.classification.prediction import ClassScore, predict


class ClassificationCommands:
    """Top-1, top-5 and loss on a folder of images; the best classes of an image."""

    name: ClassVar[str] = "classifier"
    unused: ClassVar[tuple[str, ...]] = ("results", "threshold")
    columns: ClassVar[tuple[str, ...]] = ("class", "score")

    def open_evaluation(self, model: ClassificationModel, options: EvalArguments) -> Evaluation:
        """Open the folder of a split."""
        transform, names = model.config.preprocess.build(), model.config.class_names or None
        dataset = open_image_folder(options.data, options.split, transform, names)
        if options.limit is not None:
            dataset = dataset.limited(options.limit)
        return Evaluation(num_images=len(dataset), run=partial(_evaluate, model, dataset, options))

    def predict(
        self, model: ClassificationModel, paths: Sequence[Path], options: PredictArguments, skip: Skip
    ) -> Iterator[tuple[Path, "ClassPrediction"]]:
        """Find the best classes of images."""
        found = predict(
            model,
            paths,
            top=5 if options.top is None else options.top,
            labels=find_labels(options.classes, _labels(model.config)),
            batch_size=16 if options.batch_size is None else options.batch_size,
            skip=skip,
        )
        return ((path, ClassPrediction(scores)) for path, scores in found)

    def part_tables(self, config: ClassificationConfig, model: ClassificationModel) -> list[Table]:
        """Branches; preprocessing, interactions and head."""
        head, preprocess = config.head, config.preprocess
        table = Table("part", "what", "params")
        table.add_row(*input_row(f"{preprocess.input_size} px", preprocess.mean, preprocess.std))
        table.add_row(*interaction_row(config.pyramid, model.pyramid))
        table.add_row(
            "head", f"{type(head).__name__.removesuffix('Config')}, {head.num_classes} classes", millions(model.head)
        )
        table.add_row("[bold]all[/]", "", f"[bold]{millions(model)}[/]")
        return [branch_table(config.pyramid, model.pyramid), table]


@dataclass(frozen=True)
class ClassPrediction:
    """The best classes of an image."""

    scores: list[ClassScore]

    def rows(self) -> Sequence[tuple[str, ...]]:
        """A row for each class."""
        return [(escape(score.name), f"{100 * score.score:.1f} %") for score in self.scores]

    def as_json(self) -> list[ClassScore]:
        """The classes, best first."""
        return self.scores

    def draw(self, image: Image.Image) -> Image.Image:
        """The classes in a caption under the image."""
        return annotate_classification(image, [(score.name, score.score) for score in self.scores])

    def draw_labels(self) -> None:
        """Pixels have no labels."""


def _labels(config: ClassificationConfig) -> dict[str, int]:
    """Labels by name: as people call a class, and as its folder is called."""
    names = config.class_names or [f"class {label}" for label in range(config.head.num_classes)]
    return {readable_name(name): label for label, name in enumerate(names)} | {
        name: label for label, name in enumerate(names)
    }


def _evaluate(
    model: ClassificationModel, dataset: ImageFolder, options: EvalArguments, progress: Callable[[int], None]
) -> Report:
    scores = evaluate(
        model,
        dataset,
        batch_size=64 if options.batch_size is None else options.batch_size,
        num_workers=options.num_workers,
        autocast=options.autocast,
        progress=progress,
    )
    per_class = dict(zip(dataset.class_names, scores.per_class, strict=True))
    return Report(
        table=_table(scores), class_table=_class_table(per_class), json=asdict(scores) | {"per_class": per_class}
    )


def _table(scores: ClassificationScores) -> Table:
    table = Table("images", "top-1", "top-5", "loss")
    table.add_row(f"{scores.num_images}", f"{scores.top1:.2f} %", f"{scores.top5:.2f} %", f"{scores.loss:.4f}")
    return table


def _class_table(per_class: dict[str, float | None]) -> Table:
    table = Table("class", "top-1")
    for name, score in per_class.items():
        table.add_row(escape(readable_name(name)), "no image" if score is None else f"{score:.2f} %")
    return table
