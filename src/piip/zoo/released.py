"""The weights of the official release, on the Hugging Face hub: fetched, converted, and kept."""

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import cached_assets_path
from huggingface_hub.utils import WeakFileLock

from piip.downloads import fetch
from piip.weights import WeightsError, save_tensors
from piip.zoo.cards.card import REPOSITORY, ModelCard
from piip.zoo.checkpoints import fit_checkpoint
from piip.zoo.official.convert import Model

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
    source = fetch(REPOSITORY, card.checkpoint, f"name the file: --weights {card.name}.pth")
    folder = cached_assets_path("piip", REPOSITORY, f"converted-{_ADAPTERS}")
    target = folder / f"{card.name}-{_upload(source)[:16]}.safetensors"
    with WeakFileLock(folder / f".{card.name}.lock"):  # the processes of a training ask for it at the same time
        if not _is_whole(target, models := list(models)):
            _, tensors = fit_checkpoint(source, models)
            save_tensors(tensors, target)
    return target


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
