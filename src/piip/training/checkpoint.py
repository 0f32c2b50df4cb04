"""Checkpoints that are whole or not there."""

import dataclasses
import re
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer

from piip.config import ConfigError, load_config, save_config
from piip.files import atomic_path, flush
from piip.hub import PretrainedModel
from piip.weights import WeightsError, load_into, read_safetensors, read_weights, save_tensors, weights_path

_FOLDER = "checkpoints"
_PREFIX = "step-"
_UNFINISHED = ".unfinished"
_PROGRESS = "progress.json"
_EMA = "ema.safetensors"
_OPTIMIZER = "optimizer.pt"


class CheckpointError(ValueError):
    """A checkpoint that cannot be read: the message names the file, and says what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is.

    Attributes:
        step: optimizer steps that are done.
        num_samples: size of the training data, on which the order of the samples depends.
        evaluated_step: step of the last evaluation, or 0.
        best_score: highest score so far, of those on the most images.
        best_step: where that was.
        best_images: on how many images it is.
    """

    step: int = 0
    num_samples: int
    evaluated_step: int = 0
    best_score: float | None = None
    best_step: int = 0
    best_images: int = 0


class Checkpoints:
    """The checkpoints of a run: what `save_pretrained` writes, and beside it what is needed to go on.

    Nothing in them depends on the number of processes. Random numbers are not among it, since those of each step are
    drawn from the seed of the run and the number of the step.

    Args:
        run: its folder.
        accelerator: after everything has been prepared.
        model: what is trained, as it was before that.
        optimizer: as it is prepared.
        ema: the averaged model, or None.
        keep: how many checkpoints to keep.
    """

    def __init__(
        self,
        run: Path,
        accelerator: Accelerator,
        model: PretrainedModel,
        optimizer: AcceleratedOptimizer,
        ema: PretrainedModel | None,
        keep: int,
    ) -> None:
        self.folder = run / _FOLDER
        self.accelerator = accelerator
        self.model, self.optimizer, self.ema = model, optimizer, ema
        self.keep = keep

    def save(self, progress: Progress) -> Path:
        """Write a checkpoint, on all processes; it gets its name when it is complete, and old ones go after that."""
        path = self.folder / f"{_PREFIX}{progress.step:08d}"
        if self.accelerator.is_main_process:
            self._write(progress, path)
        self.accelerator.wait_for_everyone()
        return path

    def _write(self, progress: Progress, path: Path) -> None:
        unfinished = self.folder / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        self.model.save_pretrained(unfinished)
        if self.ema is not None:
            save_tensors(self.ema.state_dict(), unfinished / _EMA)
        scaler = self.accelerator.scaler
        states = {"optimizer": self.optimizer.state_dict(), "scaler": None if scaler is None else scaler.state_dict()}
        with atomic_path(unfinished / _OPTIMIZER) as temporary:
            torch.save(states, temporary)
        save_config(progress, unfinished / _PROGRESS)
        shutil.rmtree(path, ignore_errors=True)
        unfinished.replace(path)
        flush(self.folder)
        for old in find_checkpoints(self.folder.parent)[: -self.keep]:
            shutil.rmtree(old)

    def load(self, path: Path) -> Progress:
        """Put everything back as it was.

        Raises:
            CheckpointError: naming a file that cannot be read or does not fit.
        """
        try:
            progress = load_config(Progress, path / _PROGRESS)
            load_into(self.model, read_weights(path), weights_path(path))
            if self.ema is not None:
                load_into(self.ema, read_safetensors(path / _EMA), path / _EMA)
            self._load_states(path / _OPTIMIZER)
        except (ConfigError, WeightsError) as error:
            raise CheckpointError(f"{error}; {self._advice(path)}") from error
        return progress

    def _load_states(self, path: Path) -> None:
        try:
            states = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # there is no telling what a damaged file makes of the unpickler
            raise WeightsError(f"{path}: cannot be read: {str(error).partition(chr(10))[0]}") from error
        try:
            self.optimizer.load_state_dict(states["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(states["scaler"])
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{path}: does not fit this training: {error}") from error

    def _advice(self, path: Path) -> str:
        earlier = [other for other in find_checkpoints(self.folder.parent) if other < path]
        if not earlier:
            return "there is no checkpoint before it: if it is damaged, start a new run in another folder"
        return f"if it is damaged, delete the folder {path}, and --resume goes on from {earlier[-1]}"


def find_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    folders = (run / _FOLDER).glob(f"{_PREFIX}*")
    return sorted(path for path in folders if re.fullmatch(rf"{_PREFIX}\d+", path.name) and path.is_dir())
