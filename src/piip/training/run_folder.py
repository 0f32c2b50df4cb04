"""The folder of a run: what is in it, and whether a run may begin or go on there."""

from pathlib import Path
from typing import Any

from piip.config import read_json, save_config, to_dict
from piip.hub import CONFIG_NAME
from piip.training.checkpoint import find_checkpoints
from piip.training.task import Task

RECIPE_NAME = "recipe.json"
MODEL_NAME = "model.json"
LOG_NAME = "log.jsonl"
BEST, FINAL = "best", "final"

# What a run may be continued with another value of: the result is the same, but for what `accumulation` says of itself;
# it is here because a run may have to go on with less memory.
_FREE = frozenset(
    {"accumulation", "num_workers", "evaluate_every", "checkpoint_every", "keep_checkpoints", "log_every"}
)


def find_start(out: Path, task: Task[Any], *, resume: bool) -> Path | None:
    """The checkpoint that a run goes on from, or None where it begins.

    It begins, with or without `resume`, where there is no checkpoint: what a run has left that failed before its first
    one is in nobody's way.

    Raises:
        ValueError: when the folder holds a run and `resume` is not set, a run with other settings, naming them and
            both values of each, or the models of a run without its checkpoints.
    """
    checkpoints = find_checkpoints(out)
    if not checkpoints:
        models = [str(out / name) for name in (BEST, FINAL) if (out / name / CONFIG_NAME).exists()]
        if models:
            raise ValueError(
                f"out: {out} holds the models of a run ({', '.join(models)}) and no checkpoint to go on from; choose "
                f"another folder, or move them elsewhere"
            )
        return None
    if not resume:
        raise ValueError(f"out: {out} holds a run; resume it (--resume), or choose another folder")
    _check_unchanged(task.recipe, out / RECIPE_NAME, _FREE)
    _check_unchanged(task.model.config, out / MODEL_NAME)
    return checkpoints[-1]


def describe_run(out: Path, task: Task[Any]) -> None:
    """Make the folder, and write the recipe and the configuration of the model into it."""
    out.mkdir(parents=True, exist_ok=True)
    save_config(task.model.config, out / MODEL_NAME)
    save_config(task.recipe, out / RECIPE_NAME)


def _check_unchanged(config: Any, path: Path, ignored: frozenset[str] = frozenset()) -> None:
    differences = _differences(to_dict(config), read_json(path), "", ignored)
    if differences:
        raise ValueError(
            f"{path}: the run was started with other settings, so it cannot be resumed with these: "
            f"{'; '.join(differences[:8])}{' ...' if len(differences) > 8 else ''}. Give those of the run, or start "
            f"a new one in another folder."
        )


def _differences(now: Any, then: Any, where: str, ignored: frozenset[str]) -> list[str]:
    if isinstance(now, dict) and isinstance(then, dict) and now.get("type") == then.get("type"):
        return [
            difference
            for name in dict.fromkeys([*now, *then])
            if name not in ignored
            for difference in _differences(now.get(name), then.get(name), f"{where}.{name}".lstrip("."), ignored)
        ]
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then) <= 8:
        pairs = enumerate(zip(now, then, strict=True))
        return [found for i, (a, b) in pairs for found in _differences(a, b, f"{where}[{i}]", ignored)]
    return [] if now == then else [f"{where} is {_short(now)}, was {_short(then)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
