"""The weights of the official release, on the Hugging Face hub: fetched, converted, and kept."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from huggingface_hub import cached_assets_path
from huggingface_hub.utils import WeakFileLock
from torch import Tensor

from piip.downloads import fetch, upload_of, verify
from piip.weights import WeightsError, save_tensors
from piip.zoo.cards.card import REPOSITORY, ModelCard
from piip.zoo.checkpoints import ModelT, fit_checkpoint

_ADAPTERS = 1  # one more whenever the adapters give other tensors: what is kept of earlier ones is not taken any more


def released_weights(card: ModelCard, models: Iterable[ModelT]) -> tuple[ModelT, dict[str, Tensor]]:
    """The released weights of a model, by our names.

    The first time, the official checkpoint is fetched and converted; the result is kept beside what the hub's client
    keeps, under `assets/piip`. The types of its tensors are those of the checkpoint. A new upload is converted anew,
    and takes the place of the one before.

    Args:
        card: of a released model.
        models: that the checkpoint may be of, on the meta device.

    Returns:
        As `fit_checkpoint`.

    Raises:
        WeightsError: when the release has no such model; when it can neither be had nor is there already, with what to
            do; when the checkpoint is damaged, holds what could be executed, or is of another model.
    """
    if card.checkpoint is None:
        raise WeightsError(f"weights: the official release has none for {card.name}; leave them out, or name a file")
    source = fetch(REPOSITORY, card.checkpoint, f"name the file: --weights {card.name}.pth")
    folder, models = cached_assets_path("piip", REPOSITORY, "converted"), list(models)
    target = folder / f"{card.name}-{_ADAPTERS}-{upload_of(source)[:16]}.safetensors"
    # The processes of a training ask for it at the same time. Another one may remove it as soon as this one lets go,
    # which does not hurt what is mapped into memory.
    with WeakFileLock(folder / f".{card.name}.lock"):
        found = _kept(target, models)
        if found is None:
            verify(source)  # what is made of it is kept
            found = fit_checkpoint(source, models)
            save_tensors(found[1], target)
            _remove_others(card.name, target)
    return found


def _kept(path: Path, models: Iterable[ModelT]) -> tuple[ModelT, dict[str, Tensor]] | None:
    """What was converted before, if it is whole, and of the models as they are now."""
    try:
        return fit_checkpoint(path, models)
    except WeightsError:
        return None


def _remove_others(name: str, target: Path) -> None:
    """Remove what is kept of earlier uploads and by earlier adapters, complete or not."""
    kept = re.compile(rf"\.?{re.escape(name)}-(\d+)-[0-9a-f]{{16}}(\.tmp)?\.safetensors")  # of `atomic_path` too
    for path in target.parent.iterdir():
        found = kept.fullmatch(path.name)
        if found and int(found[1]) <= _ADAPTERS and path != target:
            with suppress(OSError):  # Windows removes no file that a process has open
                path.unlink()
