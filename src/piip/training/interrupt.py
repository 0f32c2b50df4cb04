"""Being told to stop: by Ctrl-C, or by a cluster that wants its machine back."""

import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStoppedError(Exception):
    """Training was told to stop, and has saved a checkpoint; `exit_status` is what a shell expects then."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class StopSignals:
    """Remembers SIGINT and SIGTERM while it is entered, for the loop to stop at the end of a step.

    A second Ctrl-C does not wait for that.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
