"""`piip eval`: score a model on labelled images."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.markup import escape
from rich.table import Table

from piip.cli.console import MAX_WORKERS, check_json, output, parse, progress_bar, warn, write_json
from piip.cli.processes import is_main_process, join_processes, num_processes
from piip.tasks.classification.data import open_image_folder
from piip.tasks.classification.evaluation import evaluate
from piip.tasks.classification.metric import ClassificationScores
from piip.tasks.classification.names import readable_name
from piip.zoo.load import is_saved, load_model

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Score a model on labelled images: top-1, top-5 and loss, with the model's own preprocessing."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Folder of a trained model, or name of a model (see piip models)."""
    data: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Dataset: DATA/val/CLASS/*.jpg, the layout of ImageNet."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Weights of a named model: ours (.safetensors) or an official checkpoint (.pth)."""
    split: str = "val"
    """Folder of the dataset to score."""
    batch_size: int = 64
    """Images in a batch of one process."""
    num_workers: int = MAX_WORKERS
    """Processes that read images; 0 for none."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic; the official evaluation is fp16."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes the GPU where there is one."""
    per_class: bool = False
    """Show the accuracy of each class too."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the scores as JSON to this file, those of the classes by the names of their folders; - for standard
    output."""


def run(arguments: list[str]) -> int:
    """Evaluate, on all processes of the launcher."""
    options = parse(Arguments, "eval", arguments)
    with join_processes(options.device) as device:
        check_json(options.json)
        scores, class_names = _evaluate(options, device)
        per_class = dict(zip(class_names, scores.per_class, strict=True))
        if is_main_process():
            if options.json is not None:
                write_json({**asdict(scores), "per_class": per_class}, options.json)
            if str(options.json) != "-":
                _print(scores, per_class if options.per_class else {})
    return 0


def _evaluate(options: Arguments, device: torch.device) -> tuple[ClassificationScores, tuple[str, ...]]:
    model = load_model(options.model, options.weights).to(device)
    if options.weights is None and not is_saved(options.model) and is_main_process():
        warn("no --weights were given: this model's weights are random, and so are its scores")
    names = model.config.class_names or None
    dataset = open_image_folder(options.data, options.split, model.config.preprocess.build(), names)
    with progress_bar(visible=is_main_process()) as bar:
        task = bar.add_task(f"{len(dataset)} images", total=-(-len(dataset) // num_processes()))
        scores = evaluate(
            model,
            dataset,
            batch_size=options.batch_size,
            num_workers=options.num_workers,
            autocast=_AUTOCAST[options.precision],
            progress=lambda done: bar.advance(task, done),
        )
    return scores, dataset.class_names


def _print(scores: ClassificationScores, per_class: dict[str, float | None]) -> None:
    table = Table("images", "top-1", "top-5", "loss")
    table.add_row(f"{scores.num_images}", f"{scores.top1:.2f} %", f"{scores.top5:.2f} %", f"{scores.loss:.4f}")
    output.print(table)
    if per_class:
        classes = Table("class", "top-1")
        for name, score in per_class.items():
            classes.add_row(escape(readable_name(name)), "no image" if score is None else f"{score:.2f} %")
        output.print(classes)
