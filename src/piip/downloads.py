"""Files of the Hugging Face hub, fetched so that a process which is killed loses nothing.

The hub's client goes on with a broken download only while its process lives: what is there of the file has a name of
its own each time, and is never looked for again. Of 30 GB that is too much to lose. So large files are completed here,
and put where the client keeps them; the rest is left to it. They come over HTTP, whose parts can be put together, and
not by the hub's other protocol, Xet. `hf cache prune` removes what nobody has gone on with.

`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean for `huggingface_hub`.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import are_symlinks_supported, http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from piip.weights import WeightsError

_SHA256 = re.compile("[0-9a-f]{64}")  # how the hub names large files; small ones have Git's own hash


def fetch(repository: str, file: str, by_hand: str, *, revision: str | None = None) -> Path:
    """Have a file of a repository on the hub: fetched once, and again where there is a new one.

    A download that was interrupted goes on where it ended, in another process too. A large file that is completed here
    is held to the hub's checksum of it before it counts. What is in the cache already is not, nor is what the client
    fetches itself, as it does with more than 50 GB: see `verify`. Without network, what is there already is taken.

    Args:
        repository: as `owner/repository`.
        file: its path there.
        by_hand: what to do with the file after it has been fetched in another way, for the message.
        revision: branch, tag or commit of the repository.

    Raises:
        WeightsError: with the reason and what to do, when it can neither be had nor is there.
    """
    try:
        return _fetch(repository, file, revision)
    except Exception as error:  # what a connection can fail with depends on the version of the client
        url = hf_hub_url(repository, file, revision=revision)
        raise WeightsError(
            f"{repository}/{file}: {_why_not(error)}. Fetch {url} in another way or on another machine, and {by_hand}"
        ) from error


def verify(path: Path, *, again: bool = True) -> None:
    """Hold a fetched file, whoever fetched it, to the hub's checksum of it.

    The cache tells that of large files. It does not where there are no links, as on some file systems: all are taken
    there.

    Args:
        path: as `fetch` gives it.
        again: whether one is read that was found whole before, and has not been written to since.

    Raises:
        WeightsError: when it differs; the file is gone then, so that it is fetched anew the next time.
    """
    expected = upload_of(path)
    if not _SHA256.fullmatch(expected):
        return
    blob = path.resolve()
    state, record = blob.stat(), blob.with_name(f"{blob.name}.piip.verified")
    seen = f"{state.st_size} {state.st_mtime_ns}"
    if not again and record.exists() and record.read_text() == seen:
        return
    with blob.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        for part in (record, blob, path):
            part.unlink(missing_ok=True)  # another process may have found it too
        raise WeightsError(
            f"{path}: is damaged: its SHA-256 is {found}, and the hub's is {expected}; it is deleted, so try again"
        )
    with suppress(OSError):  # in a cache that is for reading alone, it is read each time
        record.write_text(seen)


def upload_of(path: Path) -> str:
    """What tells the uploads of a file apart: the hub's hash of it, as which the client keeps what it links to.

    Where there are no links, as on some file systems, it is the commit.

    Args:
        path: as `fetch` gives it.
    """
    snapshots = next(parent for parent in path.parents if parent.parent.name == "snapshots")
    return path.readlink().name if path.is_symlink() else snapshots.name


def _fetch(repository: str, file: str, revision: str | None) -> Path:
    try:
        found = get_hf_file_metadata(hf_hub_url(repository, file, revision=revision))
    except Exception:  # as above
        if (cached := _cached(repository, file, revision)) is not None:
            return cached
        raise
    commit, etag, size = found.commit_hash, found.etag or "", found.size or 0
    over_http = _SHA256.fullmatch(etag) and 0 < size <= constants.MAX_HTTP_DOWNLOAD_SIZE
    if commit and over_http and _cached(repository, file, commit) is None:
        _complete(repository, file, commit, etag, size)
    return Path(hf_hub_download(repository, file, revision=revision))


def _cached(repository: str, file: str, revision: str | None) -> Path | None:
    path = try_to_load_from_cache(repository, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _complete(repository: str, file: str, commit: str, checksum: str, size: int) -> None:
    """Put a file where the client looks for it: all of it, as the hub has it, or nothing."""
    cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repository, repo_type="model")
    blob, lock = cache / folder / "blobs" / checksum, cache / ".locks" / folder / f"{checksum}.lock"  # the client's own
    target = blob if are_symlinks_supported(cache) else cache / folder / "snapshots" / commit / file
    partial = blob.with_name(f"{checksum}.piip.incomplete")
    for path in (lock, target, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if target.exists():
            return
        url = hf_hub_url(repository, file, revision=commit)
        if (received := _append(partial, url, size, name=file)) != checksum:
            partial.unlink(missing_ok=True)
            raise OSError(f"it is damaged, its SHA-256 is {received} and the hub's {checksum}, so it is deleted")
        with suppress(FileNotFoundError):  # where a file system ignores locks, another process may have been faster
            partial.replace(target)


def _append(partial: Path, url: str, size: int, name: str) -> str:
    """Fetch what is missing of a file, and give its SHA-256."""
    partial.touch()
    # Not opened for appending: without locks, processes then write the same to the same places.
    with partial.open("r+b") as stream:
        done = stream.seek(0, os.SEEK_END)
        if done > size:
            done = stream.seek(0)
            stream.truncate()
        headers = build_hf_headers()
        http_get(url, stream, resume_size=done, headers=headers, expected_size=size, displayed_filename=name)
        stream.seek(0)
        os.fsync(stream.fileno())  # or its new name may reach the disk before what it stands for
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _why_not(error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return f"is not in the cache, {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to fetch it"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
        return f"the hub does not have it, or not for everyone ({type(error).__name__})"
    return f"cannot be fetched, try again ({type(error).__name__}: {' '.join(str(error).split())})"
