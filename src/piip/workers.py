"""Processes that load data, when everything is told to stop."""

import os
import signal

_GRACE = 10  # seconds


def init_worker(_: int) -> None:
    """Let a worker of a data loader ignore Ctrl-C, and live on for some seconds when it is told to terminate.

    Terminals and clusters send their signals to whole process groups. Training finishes its step then, and needs the
    batches for it. Ignoring SIGTERM altogether is no way: it is also how Python ends workers that are left over when
    it exits, after an error for example, and it waits for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))
        # Not by dying of the signal: that would make PyTorch raise an error in whatever the training process does.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
