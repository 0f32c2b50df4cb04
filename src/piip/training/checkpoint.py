"""Checkpoints that are whole or not there, and the checks before one is continued."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from piip.config import load_config, read_json, save_config, to_dict
from piip.hub import PretrainedModel, load_weights, save_weights

_FOLDER = "checkpoints"
_PREFIX = "step-"
_UNFINISHED = ".unfinished"
_PROGRESS = "progress.json"
_EMA = "ema.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is.

    Attributes:
        step: optimizer steps that are done.
        num_samples: size of the training data, on which the order of the samples depends.
        evaluated_step: step of the last evaluation, or 0.
        best_score: highest score so far.
        best_step: where that was.
    """

    step: int = 0
    num_samples: int
    evaluated_step: int = 0
    best_score: float | None = None
    best_step: int = 0


class Checkpoints:
    """The checkpoints of a run.

    Args:
        run: its folder.
        accelerator: after everything has been prepared.
        ema: the averaged model, or None.
        keep: how many checkpoints to keep.
    """

    def __init__(self, run: Path, accelerator: Accelerator, ema: PretrainedModel | None, keep: int) -> None:
        self.folder = run / _FOLDER
        self.accelerator = accelerator
        self.ema = ema
        self.keep = keep

    def save(self, progress: Progress) -> Path:
        """Write a checkpoint, on all processes; it gets its name when it is complete, and old ones go after that."""
        path = self.folder / f"{_PREFIX}{progress.step:08d}"
        unfinished = self.folder / _UNFINISHED
        if self.accelerator.is_main_process:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(unfinished))
        if self.accelerator.is_main_process:
            if self.ema is not None:
                save_weights(self.ema, unfinished / _EMA)
            save_config(progress, unfinished / _PROGRESS)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            shutil.rmtree(path, ignore_errors=True)
            unfinished.replace(path)
            for old in find_checkpoints(self.folder.parent)[: -self.keep]:
                shutil.rmtree(old)
        return path

    def load(self, path: Path) -> Progress:
        """Put everything back as it was.

        Raises:
            ConfigError, WeightsError: naming a file that cannot be read.
        """
        progress = load_config(Progress, path / _PROGRESS)
        self.accelerator.load_state(str(path))
        if self.ema is not None:
            load_weights(self.ema, path / _EMA)
        return progress


def find_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(path for path in (run / _FOLDER).glob(f"{_PREFIX}*") if (path / _PROGRESS).is_file())


def check_unchanged(config: Any, path: Path, ignored: frozenset[str] = frozenset()) -> None:
    """Refuse to continue with another configuration than the one that a run was started with.

    Args:
        config: a dataclass.
        path: where the run has saved its own.
        ignored: names of fields that may differ.

    Raises:
        ValueError: naming the fields, and both values of each.
    """
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
