"""Files that appear whole or not at all."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # what network file systems answer that cannot flush a folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end it takes the place of `path` in one step.

    If the enclosed code fails or is interrupted, or the machine goes down, what stood at `path` stays as it was, and
    the temporary file is removed where that is possible. That one is hidden, lies beside `path`, has the same suffix,
    and always the same name: what a killed process leaves is overwritten by the next one. A link is followed, and its
    target replaced; the new file may be read and written by whom the old one may, or any new one.

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
        temporary.chmod(_mode_of(path))
        flush(temporary)  # or the new name may reach the disk before what it stands for
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def _mode_of(path: Path) -> int:
    """Who may do what with a file; of one that is not there, with a new one. Some writers make files for them alone."""
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0o077)  # it can only be read by setting it
    os.umask(umask)
    return 0o666 & ~umask


def flush(path: Path) -> None:
    """Wait until a file is on disk as it was written, or a folder with the names that are in it now."""
    is_folder = path.is_dir()
    if is_folder and not hasattr(os, "O_DIRECTORY"):
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NO_SYNC):
            raise
    finally:
        os.close(descriptor)
