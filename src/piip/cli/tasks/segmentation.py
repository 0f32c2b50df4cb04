"""What the commands do for segmentors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from rich.markup import escape
from rich.table import Table

from piip.cli.tasks.arguments import EvalArguments, PredictArguments
from piip.cli.tasks.base import Evaluation, Report, Skip, find_labels
from piip.cli.tasks.parts import branch_table
from piip.cli.tasks.segmentation_tables import class_table, part_table, score_table
from piip.draw import Colour, DrawnClass, annotate_segmentation, class_colour
from piip.problems import DatasetError
from piip.tasks.segmentation.data import EvaluationSet
from piip.tasks.segmentation.evaluation import evaluate
from piip.tasks.segmentation.files import SegmentationFiles, open_split
from piip.tasks.segmentation.prediction import LabelMap, count_pixels, predict
from piip.tasks.segmentation.upernet.model import UperNet, UperNetConfig


class SegmentationCommands:
    """IoU on images and masks; the classes of the pixels of images."""

    name: ClassVar[str] = "segmentor"
    unused: ClassVar[tuple[str, ...]] = ("results", "top", "threshold", "batch_size")
    columns: ClassVar[tuple[str, ...]] = ("class", "area", "pixels")

    def open_evaluation(self, model: UperNet, options: EvalArguments) -> Evaluation:
        """Find the images and masks of a split."""
        files = _open(model.config, options)
        dataset = EvaluationSet(files, model.config.preprocess.build(), options.limit)
        summary, *problems = files.summary()
        return Evaluation(
            num_images=len(dataset),
            summary=summary,
            problems=problems,
            run=partial(_evaluate, model, dataset, options),
        )

    def predict(
        self, model: UperNet, paths: Sequence[Path], options: PredictArguments, skip: Skip
    ) -> Iterator[tuple[Path, "SegmentationPrediction"]]:
        """Label the pixels of images."""
        names, colours = _class_names(model.config), _colours(model.config)
        found = predict(
            model,
            model.config.preprocess,
            paths,
            labels=find_labels(options.classes, {name: label for label, name in enumerate(names)}),
            skip=skip,
        )
        return ((path, SegmentationPrediction(label_map, names, colours)) for path, label_map in found)

    def part_tables(self, config: UperNetConfig, model: UperNet) -> list[Table]:
        """Branches; backbone and heads."""
        return [branch_table(config.backbone.pyramid, model.backbone.pyramid), part_table(config, model)]


@dataclass(frozen=True)
class SegmentationPrediction:
    """The classes of the pixels of an image."""

    label_map: LabelMap
    class_names: Sequence[str]
    colours: Sequence[Colour]

    def rows(self) -> Sequence[tuple[str, ...]]:
        """A row for each class, that of most pixels first."""
        rows = [
            (escape(self.class_names[label]), f"{100 * pixels / self.label_map.size:.1f} %", f"{pixels}")
            for label, pixels in count_pixels(self.label_map).items()
        ]
        return rows or [("[dim]nothing found[/]", "", "")]

    def as_json(self) -> dict[str, Any]:
        """Size of the image; label, name, pixels and area (its part of the image, 0 to 1) of each class, most first."""
        height, width = self.label_map.shape
        classes = [
            {
                "label": label,
                "name": self.class_names[label],
                "pixels": pixels,
                "area": pixels / self.label_map.size,
            }
            for label, pixels in count_pixels(self.label_map).items()
        ]
        return {"height": height, "width": width, "classes": classes}

    def draw(self, image: Image.Image) -> Image.Image:
        """The classes as a tint of the image, and what the colours mean."""
        classes = [
            DrawnClass(
                label=label,
                name=self.class_names[label],
                colour=self.colours[label],
                share=pixels / self.label_map.size,
            )
            for label, pixels in count_pixels(self.label_map).items()
        ]
        return annotate_segmentation(image, self.label_map, classes)

    def draw_labels(self) -> Image.Image:
        """The labels themselves, with the colours of the classes as a palette; 255 for none."""
        labels = Image.fromarray(self.label_map)
        # All 256 colours: with fewer, the file has too few bits for 255.
        unused = [(0, 0, 0)] * (256 - len(self.colours))
        labels.putpalette([part for colour in (*self.colours, *unused) for part in colour])
        return labels


def _class_names(config: UperNetConfig) -> tuple[str, ...]:
    return config.class_names or tuple(f"class {label}" for label in range(config.num_classes))


def _colours(config: UperNetConfig) -> tuple[Colour, ...]:
    return config.palette or tuple(class_colour(label) for label in range(config.num_classes))


def _open(config: UperNetConfig, options: EvalArguments) -> SegmentationFiles:
    files = open_split(options.data, options.split, config.class_names or None)
    if len(files.masks.class_names) != config.num_classes:
        raise DatasetError(
            f"{options.data}: {len(files.masks.class_names)} classes, but the model has {config.num_classes}, and no "
            f"names to tell which of them these are"
        )
    return files


def _evaluate(
    model: UperNet, dataset: EvaluationSet, options: EvalArguments, progress: Callable[[int], None]
) -> Report:
    scores = evaluate(
        model,
        dataset,
        num_workers=options.num_workers,
        autocast=options.autocast,
        progress=progress,
    )
    names = dataset.files.masks.class_names
    by_name = {
        field: dict(zip(names, getattr(scores, field), strict=True))
        for field in ("per_class_iou", "per_class_accuracy")
    }
    return Report(table=score_table(scores), class_table=class_table(names, scores), json=asdict(scores) | by_name)
