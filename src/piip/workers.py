"""Processes that load data, beside the one that trains, and their errors."""

import multiprocessing
import os
import signal
import sys
import threading


class LoaderError(ValueError):
    """An error whose text is its message, also where a process that loads data has raised it."""

    def __str__(self) -> str:
        # The worker of a data loader hands on an error as a text, with its stack trace before the message.
        return super().__str__().rpartition(f"{type(self).__name__}: ")[2].rstrip()


def init_worker(_: int) -> None:
    """Let a worker of a data loader end when its training process ends it, and by no other Ctrl-C or SIGTERM.

    Terminals and clusters send their signals to whole process groups. Training goes on for a step or two then, however
    long those take, and needs batches for them. A worker whose training process has gone ends by itself: PyTorch sees
    to that. Signals cannot be kept from threads that a library has started before; only a process that is spawned, not
    forked, can have such.

    What it writes does not go through the progress bar of the training process, since a lock of that may have been
    closed when the worker was made.
    """
    if sys.__stderr__ is not None:
        sys.stderr = sys.__stderr__
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_end, args=(parent.pid,), daemon=True).start()


def _wait_for_end(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    # Not by dying of the signal: that would make PyTorch raise an error in whatever the training process does.
    os._exit(0)
