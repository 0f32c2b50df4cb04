"""Who is told about a training: the log on disk, and whoever watches."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator

from piip.files import atomic_path

Record = Mapping[str, str | int | float]


class Reporter:
    """Hears about a training, on the main process; does nothing by itself."""

    def on_start(self, step: int, num_steps: int) -> None:
        """Training begins, or goes on after `step` of `num_steps` optimizer steps."""

    def on_frozen(self, names: Sequence[str]) -> None:
        """These parameters are left as they are while training lasts, because no loss depends on them."""

    def on_step(self) -> None:
        """An optimizer step is done."""

    def on_log(self, record: Record) -> None:
        """Figures of the last steps are there, as in `log.jsonl`."""

    def on_evaluation_start(self, num_samples: int) -> Callable[[int], None]:
        """An evaluation begins; what is returned is called with each number of samples done."""
        del num_samples
        return lambda _: None

    def on_evaluation(self, record: Record) -> None:
        """The scores of an evaluation are there, as in `log.jsonl`."""

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint was written."""


class RunLog:
    """`log.jsonl`: a line for each entry of the log and each evaluation.

    Args:
        path: the file; what it has of a run that is continued from an earlier step is cut off.
        step: the step that training continues after.
        evaluated_step: the last evaluation that is known there.
    """

    def __init__(self, path: Path, step: int, evaluated_step: int) -> None:
        self.path = path
        last = {"train": step, "eval": evaluated_step}
        kept = [line for line in read_log(path) if int(line["step"]) <= last[str(line["kind"])]]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append a record."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Journal:
    """Figures of a run, as they are kept: in `log.jsonl`, and for TensorBoard.

    Args:
        path: of the log.
        accelerator: knows the main process, which writes.
    """

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        self.path = path
        self.accelerator = accelerator
        self._log: RunLog | None = None

    def open(self, step: int, evaluated_step: int) -> None:
        """Begin, or go on after these steps; the folder is there by now."""
        if self.accelerator.is_main_process:
            self._log = RunLog(self.path, step, evaluated_step)
        self.accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": step + 1}})

    def record(self, kind: str, step: int, epoch: float, figures: Mapping[str, float]) -> Record:
        """Keep figures of the training (`train`) or an evaluation (`eval`), and return them as they are kept."""
        record: Record = {"kind": kind, "step": step, "epoch": epoch, **figures}
        if self._log is not None:
            self._log.write(record)
        self.accelerator.log({f"{kind}/{name}": value for name, value in figures.items()}, step=step)
        return record

    def close(self) -> None:
        """End; everything is written."""
        for tracker in self.accelerator.trackers:
            tracker.finish()


def read_log(path: Path) -> list[Record]:
    """The records of a `log.jsonl`; a last line that was cut off when the process was killed is left out."""
    if not path.is_file():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines]
