"""Being told to stop: by Ctrl-C, or by a cluster that wants its machine back."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self, cast

import torch
import torch.distributed as dist
from torch import Tensor

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStoppedError(Exception):
    """Training was told to stop, and has saved a checkpoint; `exit_status` is what a shell expects then."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class StopSignals:
    """Remembers SIGINT and SIGTERM while it is entered, and tells all processes of what one of them got.

    A second Ctrl-C does not wait for that. Outside the main thread, where Python has no signals, nothing is remembered.

    Args:
        num_processes: that train together; all of them make and ask theirs alike.
    """

    def __init__(self, num_processes: int = 1) -> None:
        self.received = 0
        self._previous: dict[signal.Signals, signal._HANDLER] = {}
        # Flags are exchanged between the processors alone: a GPU would have to finish its step first.
        self._group: dist.ProcessGroup | None = None
        if num_processes > 1:
            self._group = cast("dist.ProcessGroup", dist.new_group(backend="gloo"))
        self._round: tuple[dist.Work, Tensor] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._group is not None and self._round is None:  # an open round would wait for processes that have failed
            dist.destroy_process_group(self._group)

    def agreed(self, *, wait: bool) -> int:
        """The signal that any process got, or 0; all processes that ask get the same answer.

        Args:
            wait: for the other processes to ask too. Without, a signal is told one question later, and asking costs
                nothing: the answers are on their way while the next step is made.
        """
        if self._group is None:
            return self.received
        if earlier := self._finish_round():
            return earlier
        flag = torch.tensor(self.received)
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, self._group, async_op=True)
        self._round = work, flag
        return self._finish_round() if wait else 0

    def _finish_round(self) -> int:
        if self._round is None:
            return 0
        work, flag = self._round
        self._round = None
        work.wait()
        return int(flag)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


class StoppableProgress:
    """Progress of an evaluation, which ends there on all processes when one of them was told to stop.

    A process that got a signal, or has done its share, waits for the others to get as far; nobody may begin to
    exchange results with those that stop.

    Args:
        share: samples of this process.
        report: is told of each number of samples done.
        signals: what was received.
        message: of the error.
    """

    def __init__(self, share: int, report: Callable[[int], None], signals: StopSignals, message: str) -> None:
        self.share, self.done = share, 0
        self._report, self._signals, self._message = report, signals, message
        if share == 0:
            self._agree()

    def __call__(self, done: int) -> None:
        """Samples were done.

        Raises:
            TrainingStoppedError: on all processes, if one was told to stop.
        """
        self._report(done)
        self.done += done
        if self._signals.received or self.done == self.share:
            self._agree()

    def check_complete(self) -> None:
        """Refuse an evaluation that left out or repeated samples, whose processes would wait for one another.

        Raises:
            RuntimeError: with both numbers.
        """
        if self.done != self.share:
            raise RuntimeError(f"evaluate: told of {self.done} samples, and the share of this process is {self.share}")

    def _agree(self) -> None:
        if number := self._signals.agreed(wait=True):
            raise TrainingStoppedError(number, self._message)
