"""What people see of a training."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from piip.cli.console import errors
from piip.config import listing
from piip.training.reporter import Record, Reporter

_POSITION = ("kind", "step", "epoch")  # what a record has beside its figures
_QUIET_SECONDS = 30.0  # between lines where there is no terminal for a bar


class ConsoleReporter(Reporter):
    """A progress bar with the latest figures, and a line for each evaluation; without a terminal lines only."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[figures]}"),
            console=errors,
            transient=True,
        )
        self._steps = self.bar.add_task("steps", visible=False, figures="")
        self._held_out = self.bar.add_task("held-out images", visible=False, figures="")
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_start(self, step: int, num_steps: int) -> None:
        """Show the bar."""
        self.bar.update(self._steps, total=num_steps, completed=step, visible=True)
        if step:
            self._line(f"going on after step {step} of {num_steps}")

    def on_frozen(self, names: Sequence[str]) -> None:
        """Print how many there are, and the first."""
        self._line(f"{len(names)} parameters are not trained, since no loss depends on them: {listing(names, 3)}")

    def on_step(self) -> None:
        """Advance the bar."""
        self.bar.advance(self._steps)

    def on_log(self, record: Record) -> None:
        """Show the figures beside the bar."""
        figures = f"loss {record['loss']:.3f}, {record['samples_per_second']:.0f} images/s"
        self.bar.update(self._steps, figures=figures)
        if not errors.is_terminal and time.monotonic() - self._last_line > _QUIET_SECONDS:
            self._line(f"step {record['step']}, epoch {record['epoch']:.2f}: {figures}, lr {record['lr']:.2e}")

    def on_evaluation_start(self, num_samples: int) -> Callable[[int], None]:
        """Show a second bar."""
        self.bar.reset(self._held_out, total=num_samples, visible=True)
        return lambda done: self.bar.advance(self._held_out, done)

    def on_evaluation(self, record: Record) -> None:
        """Print the scores."""
        self.bar.update(self._held_out, visible=False)
        scores = [f"{name} {value:<6.4g}" for name, value in record.items() if name not in _POSITION]
        self._line(f"epoch {record['epoch']:<5g} {'   '.join(scores)}".rstrip())

    def on_checkpoint(self, path: Path) -> None:
        """Nothing: checkpoints are named where they matter, when training stops."""

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        errors.print(text, highlight=False)
