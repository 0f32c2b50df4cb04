"""`piip train`: train a model on a dataset."""

import shlex
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import torch
import tyro
from rich.markup import escape
from rich.table import Column, Table

from piip.cli.card_table import tell_notice
from piip.cli.console import check_folder, check_json, errors, note, output, parse, write_json
from piip.cli.processes import is_main_process, join_processes
from piip.cli.training_progress import ConsoleReporter
from piip.config import listing
from piip.training.checkpoint import find_checkpoints
from piip.training.interrupt import TrainingStoppedError
from piip.training.kinds import default_recipe, kind_of, prepare_model, recipe_listing
from piip.training.loop import TrainingResult, train
from piip.zoo.cards import find_card
from piip.zoo.load import find_config, is_saved
from piip.zoo.pretrained import CARD, card_sources, load_branches

RecipeT = TypeVar("RecipeT")

_RECIPE_HELP = (
    "Recipe to start from: a name or a file (recipe.json of another run). By default that of a named model's card, and "
    f"finetune for folders. There are, {recipe_listing()}."
)
_EXAMPLE = "piip_demo_shapes_96-48-32"  # whose recipe stands in the help where no model is named


@dataclass(frozen=True, kw_only=True)
class Arguments(Generic[RecipeT]):
    """Train a classifier, detector or segmentor.

    accelerate launch and torchrun start several processes.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Name of a model (see piip models), or folder of a trained one to go on from."""
    data: Annotated[Path, tyro.conf.arg(metavar="DATA")]
    """Dataset: for classification a folder as of ImageNet (DATA/train/CLASS/*.jpg, DATA/val/CLASS/*.jpg); for detection
    one as of COCO (DATA/annotations/instances_train2017.json, DATA/train2017/*.jpg, likewise val), or a JSON file that
    names others: {"train": {"annotations": FILE, "images": FOLDER}, "val": ...}; for segmentation a folder as of ADE20K
    (DATA/images/training/*.jpg, DATA/annotations/training/*.png, likewise validation), or a JSON file: {"class_names":
    [...], "splits": {"train": {"images": FOLDER, "masks": FOLDER}, "val": ...}}."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the run: checkpoints, log, the best and the final model."""
    recipe: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE", help=_RECIPE_HELP)] = None
    weights: Annotated[str | None, tyro.conf.arg(metavar="official|FILE")] = None
    """Weights of a named model: official fetches those of the release; or a file, ours (.safetensors) or an official
    checkpoint (.pth)."""
    pretrained: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="SOURCE ...", help_behavior_hint="(default: none)")
    ] = ()
    """Pretrained model of each branch, from branch 1 on: FAMILY:FILE, timm/NAME or none; or card, alone, for those that
    the branches of the released model have started from."""
    resume: bool = False
    """Go on after the last checkpoint in OUT, or begin where there is none."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes the GPUs where there are some."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the result as JSON to this file; - for standard output."""
    settings: Annotated[RecipeT, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands]
    """What differs from the recipe."""


def run(arguments: list[str]) -> int:
    """Train, on all processes of the launcher."""
    options = _parse(arguments)
    with join_processes(options.device) as device:
        check_folder(options.out, "--out")
        check_json(options.json)
        try:
            result = _train(options, device)
        except TrainingStoppedError as error:
            if is_main_process():
                errors.print(str(error), markup=False, highlight=False)
            return error.exit_status
        if is_main_process():
            _show(result, options.json)
    return 0


def _train(options: Arguments[Any], device: torch.device) -> TrainingResult:
    kind = kind_of(find_config(options.model))
    data = kind.open_data(options.data)
    class_names = kind.class_names(data)
    model, renewed, kept = prepare_model(options.model, options.weights, class_names, options.settings.training.seed)
    goes_on = options.resume and bool(find_checkpoints(options.out))
    if is_main_process():
        tell_notice(options.model, trained_elsewhere=bool(options.weights or options.pretrained))
    if is_main_process() and not (goes_on or options.weights or options.pretrained or is_saved(options.model)):
        note(f"{options.model} starts from random weights; --pretrained or --weights gives it better ones")
    if renewed and not goes_on and is_main_process():
        but = f", but for what belongs to {listing(kept)}" if kept else ""
        note(f"new for the {len(class_names)} classes of the data: {', '.join(renewed)}{but}; all else is as it was")
    if options.pretrained and not goes_on:
        reports = load_branches(kind.pretrained_part(model), _sources(options))
        if is_main_process():
            note("\n".join(map(str, reports)))
    task = kind.make_task(model, options.settings, data)
    if is_main_process() and task.data_summary:
        note("\n".join(task.data_summary))
    with ConsoleReporter() if is_main_process() else nullcontext() as reporter:
        return train(task, options.out, resume=options.resume, reporter=reporter, cpu=device.type == "cpu")


def _sources(options: Arguments[Any]) -> tuple[str, ...]:
    if options.pretrained != (CARD,):
        return options.pretrained
    if is_saved(options.model):
        raise ValueError(f"--pretrained: the model in {options.model} has no card; name the sources, or leave it out")
    return card_sources(find_card(options.model))


def _parse(arguments: list[str]) -> Arguments[Any]:
    """The options, with the recipe of the model or the one that `--recipe` names as the default of its settings."""
    model = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    files = [after for option, after in pairwise(arguments) if option == "--recipe"]
    files += [argument.removeprefix("--recipe=") for argument in arguments if argument.startswith("--recipe=")]
    kind = kind_of(find_config(model or _EXAMPLE))
    recipe = kind.find_recipe(files[-1] if files else default_recipe(model or _EXAMPLE))
    default = Arguments(model=tyro.MISSING, data=tyro.MISSING, out=tyro.MISSING, settings=recipe)
    arguments_class: Any = Arguments  # of the kind of recipe, which is known only now
    options: Arguments[Any] = parse(arguments_class[kind.recipe_class], "train", arguments, default)
    if options.model != model:
        raise ValueError(f"MODEL: give it first, since it chooses the recipe: piip train {options.model} ...")
    return options


def _show(result: TrainingResult, json: Path | None) -> None:
    if json is not None:
        write_json(result, json)
    if str(json) != "-":
        table = Table("model", "after step", result.score, Column("folder", overflow="fold"))
        table.add_row("best", f"{result.best_step}", f"{result.best_score:.4g}", escape(str(result.best)))
        table.add_row("final", f"{result.steps}", f"{result.scores[result.score]:.4g}", escape(str(result.final)))
        output.print(table)
        uses = f"piip predict {shlex.quote(str(result.best))} IMAGE ... uses the best model"
        output.print(uses, style="dim", markup=False, soft_wrap=True)
