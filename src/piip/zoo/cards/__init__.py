"""The models that have a name."""

from fnmatch import fnmatchcase

from piip.config import nearest
from piip.zoo.cards import classification, detection, dino
from piip.zoo.cards.card import AnyConfig, ModelCard, PublishedScore

__all__ = ["AnyConfig", "ModelCard", "PublishedScore", "UnknownModelError", "find_card", "list_models"]

_CARDS = {card.name: card for card in (*classification.CARDS, *detection.CARDS, *dino.CARDS)}


class UnknownModelError(ValueError):
    """There is no model of this name; the message has the nearest one."""


def list_models(pattern: str = "*") -> list[str]:
    """The names of the models that match a shell-style pattern, sorted."""
    return sorted(name for name in _CARDS if fnmatchcase(name, pattern))


def find_card(name: str) -> ModelCard:
    """The card of a model.

    Raises:
        UnknownModelError: when there is none of this name.
    """
    if name not in _CARDS:
        raise UnknownModelError(f"model: there is no {name!r}{nearest(name, list(_CARDS))}")
    return _CARDS[name]
