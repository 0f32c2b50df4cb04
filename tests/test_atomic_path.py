"""Files that appear whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from piip.files import atomic_path, flush


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            assert temporary.parent == tmp_path
            assert temporary.suffix == path.suffix
            assert temporary.name.startswith(".")
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failures_leave_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "old").write_text("whole")
    with pytest.raises(error):
        fail(tmp_path / "old")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "whole")]


def test_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        pass


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file") as temporary:
        name = temporary
        temporary.write_text("x")
    name.write_text("left over")
    with atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("y")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "y")]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with atomic_path(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_only_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileExistsError, match="a folder or a device"), atomic_path(path):
            pass


def test_the_file_is_on_disk_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    flushed = []

    def record(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_ino, path.read_text()))

    monkeypatch.setattr(os, "fsync", record)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert flushed == [(path.stat().st_ino, "old"), (tmp_path.stat().st_ino, "new")]


def test_disks_that_cannot_flush_folders_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "file").touch()
    number = errno.EINVAL
    flush(tmp_path)
    with pytest.raises(OSError, match="22"):
        flush(tmp_path / "file")
    number = errno.EIO
    with pytest.raises(OSError, match="5"):
        flush(tmp_path)


def test_others_may_read_what_was_written(tmp_path):
    def write(path):
        with atomic_path(path) as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))

    umask = os.umask(0o027)
    try:
        write(tmp_path / "new")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
        (tmp_path / "new").chmod(0o604)
        write(tmp_path / "new")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604
    finally:
        os.umask(umask)
