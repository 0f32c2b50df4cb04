"""What the commands do for detectors."""

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
from piip.cli.tasks.detection_tables import class_table, dino_table, mask_rcnn_table, score_table
from piip.cli.tasks.parts import branch_table
from piip.draw import DrawnObject, annotate_detection
from piip.problems import DatasetError
from piip.tasks.detection.coco import CocoAnnotations, read_coco
from piip.tasks.detection.data import EvaluationSet
from piip.tasks.detection.datasets import find_split
from piip.tasks.detection.detector import Detector, DetectorConfig
from piip.tasks.detection.dino.model import DINO, DINOConfig
from piip.tasks.detection.evaluation import evaluate
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.tasks.detection.masks import encode_masks, mask_chunks
from piip.tasks.detection.metric import CocoScores
from piip.tasks.detection.prediction import predict
from piip.tasks.detection.structures import Detections


class DetectionCommands:
    """COCO's scores on a dataset in its format; boxes, and masks where the detector has them, on images."""

    name: ClassVar[str] = "detector"
    unused: ClassVar[tuple[str, ...]] = ("top",)
    columns: ClassVar[tuple[str, ...]] = ("class", "score", "box: x1, y1, x2, y2")

    def open_evaluation(self, model: Detector, options: EvalArguments) -> Evaluation:
        """Read the annotations of a split."""
        annotations = _read(model.config, options)
        dataset = EvaluationSet(annotations, model.config.preprocess.build(), options.limit)
        summary, *problems = annotations.summary()
        return Evaluation(
            num_images=len(dataset),
            summary=summary,
            problems=problems,
            run=partial(_evaluate, model, dataset, options),
        )

    def predict(
        self, model: Detector, paths: Sequence[Path], options: PredictArguments, skip: Skip
    ) -> Iterator[tuple[Path, "DetectionPrediction"]]:
        """Find the objects of images."""
        names = _class_names(model.config)
        found = predict(
            model,
            model.config.preprocess,
            paths,
            threshold=0.5 if options.threshold is None else options.threshold,
            labels=find_labels(options.classes, {name: label for label, name in enumerate(names)}),
            batch_size=1 if options.batch_size is None else options.batch_size,
            skip=skip,
        )
        return ((path, DetectionPrediction(detections, names)) for path, detections in found)


class MaskRCNNCommands(DetectionCommands):
    """Of Mask R-CNNs."""

    def part_tables(self, config: MaskRCNNConfig, model: MaskRCNN) -> list[Table]:
        """Branches; backbone, feature pyramid and heads."""
        return [branch_table(config.backbone.pyramid, model.backbone.pyramid), mask_rcnn_table(config, model)]


class DINOCommands(DetectionCommands):
    """Of DINOs."""

    def part_tables(self, config: DINOConfig, model: DINO) -> list[Table]:
        """Branches; backbone and transformer."""
        return [branch_table(config.backbone.pyramid, model.backbone.pyramid), dino_table(config, model)]


@dataclass(frozen=True)
class DetectionPrediction:
    """The objects of an image; their masks are made when they are asked for, and not kept."""

    detections: Detections
    class_names: Sequence[str]

    def rows(self) -> Sequence[tuple[str, ...]]:
        """A row for each object."""
        rows = [
            (escape(item.name), f"{100 * (item.score or 0):.1f} %", ", ".join(f"{side:.0f}" for side in item.box))
            for item in self._objects()
        ]
        return rows or [("[dim]nothing found[/]", "", "")]

    def as_json(self) -> list[dict[str, Any]]:
        """Label, name, score, box (x1, y1, x2, y2 in pixels) and mask (COCO's run lengths) of each object."""
        entries: list[dict[str, Any]] = [
            {"label": item.label, "name": item.name, "score": item.score, "box": item.box} for item in self._objects()
        ]
        if self.detections.mask_probs is not None:
            for entry, mask in zip(entries, encode_masks(self.detections), strict=True):
                entry["mask"] = mask
        return entries

    def draw(self, image: Image.Image) -> Image.Image:
        """Boxes, masks, names and scores on the image."""
        has_masks = self.detections.mask_probs is not None
        chunks = mask_chunks(self.detections) if has_masks else iter(())
        return annotate_detection(image, self._objects(), (mask for chunk in chunks for mask in chunk.cpu().numpy()))

    def draw_labels(self) -> None:
        """Pixels have no labels."""

    def _objects(self) -> list[DrawnObject]:
        found = self.detections
        columns = (found.boxes.tolist(), found.scores.tolist(), found.labels.tolist())
        return [
            DrawnObject(box=(x1, y1, x2, y2), label=label, name=self.class_names[label], score=score)
            for (x1, y1, x2, y2), score, label in zip(*columns, strict=True)
        ]


def _class_names(config: DetectorConfig) -> tuple[str, ...]:
    return config.class_names or tuple(f"class {label}" for label in range(config.num_classes))


def _read(config: DetectorConfig, options: EvalArguments) -> CocoAnnotations:
    file, images = find_split(options.data, options.split)
    annotations = read_coco(file, images, config.class_names or None)
    if len(annotations.class_names) != config.num_classes:
        raise DatasetError(
            f"{file}: {len(annotations.class_names)} categories, but the model has {config.num_classes} classes, and "
            f"no names to tell which of them these are"
        )
    return annotations


def _evaluate(
    model: Detector, dataset: EvaluationSet, options: EvalArguments, progress: Callable[[int], None]
) -> Report:
    scores = evaluate(
        model,
        dataset,
        size_divisor=model.config.preprocess.size_divisor,
        batch_size=1 if options.batch_size is None else options.batch_size,
        num_workers=options.num_workers,
        autocast=options.autocast,
        results_file=options.results,
        progress=progress,
    )
    names = dataset.annotations.class_names
    kinds = {"box": scores.box} | ({"mask": scores.mask} if scores.mask else {})
    numbers = {"num_images": scores.num_images, "box": _as_json(scores.box, names)}
    return Report(
        table=score_table(scores.num_images, kinds),
        class_table=class_table(names, kinds),
        json=numbers | {"mask": _as_json(scores.mask, names) if scores.mask else None},
    )


def _as_json(scores: CocoScores, class_names: Sequence[str]) -> dict[str, Any]:
    return asdict(scores) | {"per_class": dict(zip(class_names, scores.per_class, strict=True))}
