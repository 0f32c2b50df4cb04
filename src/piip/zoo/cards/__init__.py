"""The models that have a name."""

import re
from fnmatch import fnmatchcase
from typing import get_args

from piip.checks import check_type
from piip.config import nearest, suggestion
from piip.zoo.cards import classification, detection, dino, segmentation
from piip.zoo.cards.card import ModelCard, PublishedScore, Task

__all__ = ["ModelCard", "PublishedScore", "Task", "UnknownModelError", "find_card", "list_models"]

_CARDS = {card.name: card for card in (*classification.CARDS, *detection.CARDS, *dino.CARDS, *segmentation.CARDS)}


class UnknownModelError(ValueError):
    """There is no model of this name; the message has those that may be meant."""


def list_models(pattern: str = "*", *, task: Task | None = None) -> list[str]:
    """The names of models, sorted.

    Args:
        pattern: that they match, as of a shell, for example `*tsb*`.
        task: that they are for; all by default.

    Raises:
        ValueError: for a task that there is not, or a pattern that is none.
    """
    check_type("pattern", pattern, str, "one such as '*tsb*', or '*' for all")
    if task is not None and task not in get_args(Task):
        raise ValueError(f"task: there is no {task!r}{nearest(str(task), list(get_args(Task)))}")
    return sorted(
        card.name for card in _CARDS.values() if fnmatchcase(card.name, pattern) and task in (None, card.task)
    )


def find_card(name: str) -> ModelCard:
    """The card of a model.

    Raises:
        UnknownModelError: when there is none of this name.
    """
    if name in _CARDS:
        return _CARDS[name]
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UnknownModelError(
            f"model: there is no {name!r}, neither a folder nor a name; if it is on the Hugging Face hub, load it with "
            f"its class, as in piip.MaskRCNN.from_pretrained({name!r}); save_pretrained makes a folder of it"
        )
    raise UnknownModelError(f"model: there is no {name!r}{suggestion(name, _CARDS)} (`piip models` shows all)")
