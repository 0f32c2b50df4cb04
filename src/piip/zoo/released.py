"""What is published on the Hugging Face hub: fetched, checked, converted, and kept.

`HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean for `huggingface_hub`, which fetches.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import cached_assets_path, constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock

from piip.weights import WeightsError, save_tensors
from piip.zoo.cards import ModelCard
from piip.zoo.checkpoints import fit_checkpoint
from piip.zoo.official.convert import Model

REPOSITORY = "OpenGVLab/PIIP"
"""The official release."""

_ADAPTERS = 1  # one more whenever the adapters give other tensors: what is kept of earlier ones is not taken any more


def released_weights(card: ModelCard, models: Iterable[Model]) -> Path:
    """The released weights of a model, as ours.

    The first time, the official checkpoint is fetched and converted; the result is kept beside what the hub's client
    keeps, under `assets/piip`. The types of its tensors are those of the checkpoint. A new upload is converted anew.

    Args:
        card: of a released model.
        models: that the checkpoint may be of, on the meta device.

    Raises:
        WeightsError: when the release has no such model; when it can neither be had nor is there already, with what to
            do; when the checkpoint is damaged, holds what could be executed, or is of another model.
    """
    if card.checkpoint is None:
        raise WeightsError(f"weights: the official release has none for {card.name}; leave them out, or name a file")
    source = fetch(REPOSITORY, card.checkpoint, f"--weights {card.name}.pth")
    folder = cached_assets_path("piip", REPOSITORY, f"converted-{_ADAPTERS}")
    target = folder / f"{card.name}-{_upload(source)[:16]}.safetensors"
    with WeakFileLock(folder / f".{card.name}.lock"):  # the processes of a training ask for it at the same time
        if not _is_whole(target, models := list(models)):
            verify(source)
            _, tensors = fit_checkpoint(source, models)
            save_tensors(tensors, target)
    return target


def fetch(repository: str, file: str, by_hand: str) -> Path:
    """Have a file of a repository on the hub: fetched once, and again where there is a new one.

    A connection that breaks is taken up again where it broke, as long as the process lives. Without network, what is
    there already is taken.

    Args:
        repository: as `owner/repository`.
        file: its path there.
        by_hand: how the file is named after it has been fetched in another way, for the message.

    Raises:
        WeightsError: with the reason and what to do, when it can neither be had nor is there.
    """
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # what a connection can fail with depends on the version of the client
        url = hf_hub_url(repository, file)
        raise WeightsError(
            f"{repository}/{file}: {_why_not(error)}. Fetch {url} in another way or on another machine, and name the "
            f"file: {by_hand}"
        ) from error


def verify(path: Path) -> None:
    """Hold a fetched file to the checksum that the hub gives of it; where it gives none, all are taken.

    The client itself compares the size, and of some transfers the content.

    Raises:
        WeightsError: when it differs; the file is gone then, so that it is fetched anew the next time.
    """
    expected = _upload(path)
    if not re.fullmatch("[0-9a-f]{64}", expected):  # the SHA-256 of a large file; small ones have Git's own hash
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        (path.parent / path.readlink()).unlink()
        path.unlink()
        raise WeightsError(
            f"{path}: is damaged: its SHA-256 is {found}, and the hub's is {expected}; it is deleted, so try again"
        )


def _why_not(error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return f"is not in the cache, {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to fetch it"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
        return f"the hub does not have it, or not for everyone ({type(error).__name__})"
    return f"cannot be fetched, try again ({type(error).__name__}: {' '.join(str(error).split())})"


def _upload(path: Path) -> str:
    """What tells the uploads of a file apart: the hub's hash of it, as which the client keeps what it links to.

    Where there are no links, as on some file systems, it is the commit.
    """
    snapshots = next(parent for parent in path.parents if parent.parent.name == "snapshots")
    return path.readlink().name if path.is_symlink() else snapshots.name


def _is_whole(path: Path, models: Iterable[Model]) -> bool:
    """Whether weights that were converted before are there, and those of the models as they are now."""
    try:
        fit_checkpoint(path, models)
    except WeightsError:
        return False
    return True
