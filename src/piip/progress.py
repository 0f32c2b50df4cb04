"""Progress bars for work that may take long before anything is shown."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

_SILENT_SECONDS = 2.0

T = TypeVar("T")


def show_progress(items: Iterable[T], total: int, what: str, *, visible: bool = True) -> Iterator[T]:
    """Gives items on, and where they take more than a moment, a progress bar on standard error.

    Args:
        items: In the order in which they are given.
        total: How many there are.
        what: Is done with them, for the bar.
        visible: Whether to show a bar at all, as one of several processes does.
    """
    start = time.monotonic()
    with_bar = False
    progress = Progress(console=Console(stderr=True), disable=not visible)
    task = progress.add_task(what, total=total)
    try:
        for item in items:
            if not with_bar and time.monotonic() - start > _SILENT_SECONDS:
                progress.start()
                with_bar = True
            yield item
            progress.advance(task)
    finally:
        if with_bar:
            progress.stop()
