"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end it takes the place of `path` in one step.

    If the enclosed code fails or is interrupted, what stood at `path` stays as it was, and the temporary file is
    removed. That one is hidden, lies beside `path`, has the same suffix, and always the same name: what a killed
    process leaves is overwritten by the next one. A link is followed, and its target replaced.

    Args:
        path: a file, there or not, in a folder that is there.

    Raises:
        FileExistsError: when something that is not a file stands at `path`: a folder, a device.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path}: this is a folder or a device, which a file cannot replace; name another path")
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
