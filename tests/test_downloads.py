"""Downloads from a hub on this machine, which are interrupted in every way."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download, hf_hub_download
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE

from hub_server import Hub, environment, hash_of
from piip.downloads import fetch, verify
from piip.weights import WeightsError

REPOSITORY = "owner/model"
FILE = "weights/model.bin"
CONTENT = random.Random(1).randbytes(50_000)
LARGE = random.Random(2).randbytes(2 * DOWNLOAD_CHUNK_SIZE + 100_000)  # is written in three pieces


def get(file: str = FILE, revision: str | None = None) -> Path:
    return fetch(REPOSITORY, file, "name the file", revision=revision)


def get_elsewhere(hub: Hub, home: Path) -> subprocess.Popen[str]:
    """In a process of its own, with the cache of this one."""
    script = f"from piip.downloads import fetch; print(fetch({REPOSITORY!r}, {FILE!r}, ''))"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(hub, home) | {"HF_HUB_DOWNLOAD_TIMEOUT": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(happened: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if happened():
            return
        assert all(process.poll() is None for process in processes), [process.communicate() for process in processes]
        time.sleep(0.05)
    raise AssertionError("nothing happened for a minute")


def blobs(home: Path) -> Path:
    return home / "hub" / "models--owner--model" / "blobs"


def partial(home: Path, content: bytes) -> Path:
    """Where the beginning of a file is."""
    return blobs(home) / f"{hash_of(content)}.piip.incomplete"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


@pytest.fixture
def begun(hub: Hub, home: Path) -> Path:
    """The beginning of a file, as a process that was killed has left it."""
    hub.upload(REPOSITORY, **{FILE: CONTENT})
    path = partial(home, CONTENT)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:20_000])
    return path


def test_a_killed_process(hub: Hub, home: Path) -> None:
    hub.upload(REPOSITORY, **{FILE: LARGE})
    hub.hold_after = len(LARGE) - 50_000
    left = partial(home, LARGE)
    with get_elsewhere(hub, home) as process:
        wait_until(lambda: left.exists() and left.stat().st_size > 1.9 * DOWNLOAD_CHUNK_SIZE, process)
        process.send_signal(signal.SIGKILL)
    size = left.stat().st_size
    hub.hold_after = None
    assert get().read_bytes() == LARGE
    assert hub.downloads == [None, f"bytes={size}-"]
    assert not left.exists()


@pytest.mark.slow
def test_two_processes_at_once(hub: Hub, home: Path) -> None:
    hub.upload(REPOSITORY, **{FILE: LARGE})
    hub.hold_after = len(LARGE) // 2
    asked = "HEAD", f"/{REPOSITORY}/resolve/main/{FILE}"
    with get_elsewhere(hub, home) as first, get_elsewhere(hub, home) as second:
        wait_until(lambda: hub.requests.count(asked) == 2, first, second)
        hub.go_on.set()
        paths = [Path(process.communicate()[0].strip()) for process in (first, second)]
    assert [path.read_bytes() for path in paths] == [LARGE, LARGE]
    assert hub.downloads == [None]
    assert [path.name for path in blobs(home).iterdir()] == [hash_of(LARGE)]


@pytest.mark.slow
def test_two_processes_where_locks_are_ignored(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("piip.downloads", "huggingface_hub.file_download"):
        monkeypatch.setattr(f"{module}.WeakFileLock", nullcontext)
    hub.upload(REPOSITORY, **{FILE: LARGE})
    hub.hold_after = len(LARGE) - 50_000
    left = partial(home, LARGE)
    with get_elsewhere(hub, home) as other:
        wait_until(lambda: left.exists() and left.stat().st_size > 1.9 * DOWNLOAD_CHUNK_SIZE, other)
        size = left.stat().st_size
        hub.hold_after = None
        assert get().read_bytes() == LARGE
        hub.go_on.set()
        printed, errors = other.communicate()
    assert hub.downloads == [None, f"bytes={size}-"], errors
    assert Path(printed.strip()).read_bytes() == LARGE
    assert [path.name for path in blobs(home).iterdir()] == [hash_of(LARGE)]


def test_a_broken_connection(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    hub.upload(REPOSITORY, **{FILE: CONTENT})
    hub.drop_after = [20 * 1024, 10 * 1024]
    assert get().read_bytes() == CONTENT
    assert hub.downloads == [None, f"bytes={20 * 1024}-", f"bytes={30 * 1024}-"]


def test_only_the_rest_is_asked_for(hub: Hub, begun: Path) -> None:
    assert get().read_bytes() == CONTENT
    assert hub.downloads == ["bytes=20000-"]
    assert not begun.exists()
    assert get().read_bytes() == CONTENT
    assert len(hub.downloads) == 1


def test_a_file_that_only_has_to_be_put_in_its_place(hub: Hub, begun: Path) -> None:
    begun.write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert hub.downloads == []


def test_a_new_upload_is_begun_anew(hub: Hub, begun: Path) -> None:
    new = CONTENT[:10_000] + CONTENT[:30_000]
    hub.upload(REPOSITORY, **{FILE: new})
    assert get().read_bytes() == new
    assert hub.downloads == [None]


def test_a_server_that_sends_everything_again(hub: Hub, begun: Path) -> None:
    hub.ignores_ranges = True
    assert get().read_bytes() == CONTENT
    assert hub.downloads == ["bytes=20000-"]


def test_a_beginning_that_is_longer_than_the_file(hub: Hub, begun: Path) -> None:
    begun.write_bytes(CONTENT + b"x")
    assert get().read_bytes() == CONTENT
    assert hub.downloads == [None]


@pytest.mark.parametrize("size", [20_000, len(CONTENT)])
def test_a_beginning_of_something_else(hub: Hub, begun: Path, size: int) -> None:
    begun.write_bytes(bytes(size))
    message = r"owner/model/weights/model\.bin: cannot be fetched, try again \(OSError: it is damaged, its SHA-256 is"
    with pytest.raises(WeightsError, match=message):
        get()
    assert list(begun.parent.iterdir()) == []
    assert get().read_bytes() == CONTENT


def test_a_file_of_another_size_than_the_hub_says(hub: Hub, begun: Path) -> None:
    hub.served[FILE] = CONTENT[:-100]
    with pytest.raises(WeightsError, match=r"try again \(OSError: .* should be of size 50000 but has size 49900"):
        get()
    hub.served.clear()
    assert get().read_bytes() == CONTENT
    assert hub.downloads == ["bytes=20000-", "bytes=49900-"]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    os.utime(path, ns=(1, 1))  # not by chance that of before


@pytest.mark.parametrize("again", [True, False])
def test_a_file_that_is_damaged_in_the_cache(hub: Hub, home: Path, again: bool) -> None:
    hub.upload(REPOSITORY, **{FILE: CONTENT})
    hf_hub_download(REPOSITORY, FILE)
    for _ in range(2):  # never read before, and found whole before
        damage(get())
        with pytest.raises(
            WeightsError, match=r"model\.bin: is damaged: its SHA-256 is .* it is deleted, so try again"
        ):
            verify(get(), again=again)
        assert list(blobs(home).iterdir()) == []
        verify(get(), again=again)
        assert get().read_bytes() == CONTENT


def test_what_was_found_whole_is_not_read_again(hub: Hub, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verify(get(), again=False)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("is read again"))
    verify(get(), again=False)


def test_a_cache_that_is_for_reading_alone(hub: Hub, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = get()

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    verify(path, again=False)
    damage(path)
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="is damaged"):
        verify(path, again=False)


def test_small_files(hub: Hub, home: Path) -> None:
    hub.upload(REPOSITORY, note=b"text")
    verify(get("note"))
    assert get("note").read_bytes() == b"text"
    assert [path.name for path in blobs(home).iterdir()] == [hash_of(b"text")]


def test_the_token_is_for_the_hub_alone(hub: Hub, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get()
    commit = hub.commits[REPOSITORY]
    assert hub.tokens[f"/{REPOSITORY}/resolve/{commit}/{FILE}"] == "Bearer hf_secret"
    assert hub.tokens[f"/cdn/{FILE}/{hash_of(CONTENT)}"] is None


def test_a_commit(hub: Hub, begun: Path) -> None:
    old = hub.commits[REPOSITORY]
    assert get(revision=old).parent.parent.name == old
    assert get().samefile(get(revision=old))
    assert len(hub.downloads) == 1


def test_what_is_there_needs_no_place_to_write(hub: Hub, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = get()

    def refuse(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr("piip.downloads.are_symlinks_supported", refuse)
    assert get() == path


def test_without_links(hub: Hub, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_download, "_are_symlinks_supported_in_dir", {constants.HF_HUB_CACHE: False})
    path = get()
    assert not path.is_symlink()
    verify(path)
    assert path.read_bytes() == CONTENT
    assert list(begun.parent.iterdir()) == []  # it is there once
    assert hub.downloads == ["bytes=20000-"]
    assert get() == path
    assert len(hub.downloads) == 1


def test_offline(hub: Hub, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"is not in the cache, .*, and HF_HUB_OFFLINE forbids to fetch it"):
        get()
    assert hub.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    path = get()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert get() == path


def test_a_hub_that_is_away(hub: Hub, begun: Path) -> None:
    hub.answer = 503, b""
    with pytest.raises(WeightsError, match=r"cannot be fetched, try again \(HfHubHTTPError"):
        get()
    assert begun.stat().st_size == 20_000
    hub.answer = None
    path = get()
    hub.answer = 503, b""
    assert get() == path
