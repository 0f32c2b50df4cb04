"""What is known of a named model, and what its weights ask for."""

from rich.markup import escape
from rich.table import Column, Table

from piip.cli.console import note
from piip.zoo.cards import ModelCard, PublishedScore, find_card
from piip.zoo.cards.card import REPOSITORY
from piip.zoo.load import is_saved

_SCORES = {"top1": "top-1", "box_ap": "box AP", "mask_ap": "mask AP", "miou": "mIoU"}


def card_table(card: ModelCard) -> Table:
    """A row for each thing that is known."""
    rows = {
        "branches": card.summary,
        "pretraining": ", ".join(card.pretraining),
        "recipe": card.recipe,
        "published": "" if card.published is None else _figures(card.published),
        "paper": f"table {card.table}" if card.table else "",
        "assumed": card.assumed,
        "weights": f"{REPOSITORY}, {card.checkpoint}" if card.released else "none were released",
        "licence": f"of the weights: {card.licence}" if card.released else "",
        "notice": _notice(card),
    }
    table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    for name, text in rows.items():
        if text:
            table.add_row(f"[dim]{name}[/]", escape(text))
    return table


def _notice(card: ModelCard) -> str:
    if not card.weights_notice:
        return ""
    return f"the weights {'' if card.released else 'that training starts from '}{card.weights_notice}"


def _figures(published: PublishedScore) -> str:
    figures = [f"{_SCORES[name]} {score}" for name, score in published.scores.items()]
    figures += [f"{published.params}M parameters"] if published.params is not None else []
    figures += [f"{published.flops} GFLOPs"] if published.flops is not None else []
    return ", ".join(figures)


def tell_notice(model: str, *, trained_elsewhere: bool) -> None:
    """Tell what the licence of the weights asks for, where a named model gets such.

    Args:
        model: its name, or a folder, which has no card.
        trained_elsewhere: whether it gets the weights of the release, or those that they started from.
    """
    if trained_elsewhere and not is_saved(model) and find_card(model).weights_notice:
        note(f"the weights {find_card(model).weights_notice}")
