"""The tables of segmentors: their scores, and what they are made of."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Column, Table

from piip.cli.tasks.parts import input_row, interaction_row, levels, merging, millions
from piip.tasks.segmentation.metric import SegmentationScores
from piip.tasks.segmentation.upernet.inference import SlidingInference
from piip.tasks.segmentation.upernet.model import UperNet, UperNetConfig


def score_table(scores: SegmentationScores) -> Table:
    """The three means."""
    table = Table("images", "mIoU", "mean accuracy", "accuracy of all pixels")
    means = (scores.miou, scores.mean_accuracy, scores.accuracy)
    table.add_row(f"{scores.num_images}", *(f"{mean:.2f} %" for mean in means))
    return table


def class_table(class_names: Sequence[str], scores: SegmentationScores) -> Table:
    """IoU and accuracy of each class."""
    table = Table("class", *(Column(name, justify="right") for name in ("IoU", "accuracy")))
    for name, iou, accuracy in zip(class_names, scores.per_class_iou, scores.per_class_accuracy, strict=True):
        table.add_row(escape(name), _figure(iou), _figure(accuracy))
    return table


def part_table(config: UperNetConfig, model: UperNet) -> Table:
    """How images are prepared, and what comes after the branches."""
    backbone, head, auxiliary = config.backbone, config.decode_head, config.auxiliary_head
    prepared = f"shorter side of {config.preprocess.short_side} px, {_inference(config)}"
    table = Table("part", "what", "params")
    table.add_row(*input_row(prepared, config.preprocess.mean, config.preprocess.std))
    table.add_row(*interaction_row(backbone.pyramid, model.backbone.pyramid))
    table.add_row("merging", merging(backbone), millions(model.backbone.merging))
    table.add_row("levels", levels(backbone), millions(model.backbone.levels))
    scales = ", ".join(map(str, head.pool_scales))
    table.add_row(
        "decode head",
        f"{config.num_classes} classes; {head.channels} channels; the coarsest map pooled to {scales} cells a side",
        millions(model.decode_head),
    )
    if auxiliary is not None and model.auxiliary_head is not None:
        what = f"in training only; {auxiliary.channels} channels, on level {auxiliary.level + 1}"
        table.add_row("auxiliary head", what, millions(model.auxiliary_head))
    table.add_row("[bold]all[/]", "", f"[bold]{millions(model)}[/]")
    return table


def _inference(config: UperNetConfig) -> str:
    inference = config.inference
    if not isinstance(inference, SlidingInference):
        return "seen as a whole"
    (height, width), (down, right) = inference.crop, inference.stride
    return f"seen in windows of {height} x {width}, every {down} x {right}"


def _figure(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"
