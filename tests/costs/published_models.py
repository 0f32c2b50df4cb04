"""Costs and scores that are published: what the official scripts computed, the README's tables and the paper's."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from piip import ClassificationConfig, PyramidConfig, ViTConfig, list_models
from piip.costs.formulas import TokenMap
from piip.pyramid import BackboneConfig
from piip.zoo.cards import ModelCard, find_card

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "published_costs.json").read_text())
"""`scripts`: by script and model. `readme` and `paper`: rows of tables; those of the paper from branch 1 on."""

SCORES = ("top1", "box_ap", "mask_ap", "miou")


def counted_part(card: ModelCard, *, as_built: bool = False) -> ClassificationConfig | BackboneConfig:
    """What the official numbers are of: a classifier, or the backbone of a detector or segmentor.

    Args:
        card: of the model.
        as_built: whether branch 4 of four is what the official detection code builds, of the arguments of branch 3.
    """
    config = card.variants[0]() if as_built else card.config()
    return config if isinstance(config, ClassificationConfig) else config.backbone


def printed(number: float, text: str) -> str:
    """How a number was printed so: `rounded`, `truncated`, `rounded twice` (the scripts print one decimal), or `no`."""
    figure, unit = text[:-1], {"M": 1e6, "G": 1e9}[text[-1]]
    digits = len(figure.partition(".")[2])
    number /= unit
    if f"{number:.{digits}f}" == figure:
        return "rounded"
    if math.floor(number * 10**digits) / 10**digits == float(figure):
        return "truncated"
    return "rounded twice" if math.floor(float(f"{number:.1f}") + 0.5) == float(figure) else "no"


def label(row: dict[str, Any]) -> str:
    """What tells a row of the paper from the others."""
    more = [row["attention"]] if "attention" in row else []
    more += [f"{row['interactions']} interactions"] if "interactions" in row else []
    return " ".join([f"table {row['table']}:", row["model"], *map(str, row["resolution"]), *more])


def cards_of(row: dict[str, Any]) -> list[ModelCard]:
    """The cards of a row of the paper: with its figures, and branches on images of its sizes."""
    cards = (find_card(name) for name in list_models())
    return [card for card in cards if has_figures(card, row) and sizes(counted_part(card)) == row["resolution"]]


def has_figures(card: ModelCard, row: dict[str, Any]) -> bool:
    """Whether the card's figures are those of the row; table 9 has no mask AP, and two cards have no scores."""
    if card.published is None or f"{card.published.flops}G" != row["flops"]:
        return False
    return all(row.get(metric, score) == score for metric, score in card.published.scores.items())


def sizes(config: ClassificationConfig | BackboneConfig) -> list[int]:
    """The images of the branches, in pixels."""
    return [branch.image_size for branch in config.pyramid.branches]


def as_counted(config: ClassificationConfig | BackboneConfig) -> ClassificationConfig | BackboneConfig:
    """As the paper counts an InternViT-6B with windows: padded after `qkv`, and with norms of a type that counts."""
    first, *others = config.pyramid.branches
    if not isinstance(first, ViTConfig) or first.norm == "layernorm" or not any(first.windows):
        return config
    first = replace(first, window_padding="qkv", norm="layernorm", qk_norm=False)
    others = [replace(branch, window_padding="qkv") for branch in others]
    return replace(config, pyramid=replace(config.pyramid, branches=(first, *others)))


def slips(row: dict[str, Any], pyramid: PyramidConfig) -> tuple[float, int]:
    """What the paper counts otherwise: multiply-adds and parameters to add to ours. Its causes are inferred.

    Each is what all figures of its rows follow from; the paper tells none of them.
    """
    cells = [(branch.image_size // 16) ** 2 for branch in pyramid.branches]
    if row["model"] == "PIIP-LH6B":
        tokens, (giant, huge, _) = cells, pyramid.branches
        # Of the layers of ViT-H those of 12 of its 32 blocks, one before each interaction, but the attention of all.
        layers = tokens[1] * 12 * huge.channels[0] ** 2 + 2 * TokenMap(tokens[1], huge.channels[0]).norm
        # Windows of 14 tokens on InternViT-6B's maps of 12 x 12 as if they were full. Its queries and keys have norms
        # after all, of a type that is not counted.
        beyond = 48 * 2 * tokens[0] * max(0, 14**2 - tokens[0]) * giant.channels[0]
        return beyond - 20 * layers, 48 * 2 * giant.channels[0]
    if is_circle(row):
        # The formula of deformable attention for both directions between two branches, whichever there are.
        edges = pyramid.interaction.edges_between(3)
        others = [(source, query) for query, source in edges if (source, query) not in edges]
        return sum(12 * 5 * 4 * cells[query - 1] * pyramid.channels[query - 1] for query, _ in others), 0
    if row["model"] == "DeiT-B":
        # One of the two products of attention; the ViT-L of the same table is counted with both.
        return -12 * cells[0] ** 2 * pyramid.channels[0], 0
    return 0, 0


def is_circle(row: dict[str, Any]) -> bool:
    """Whether the row is one of the two whose directions are circles; which is which cannot be told."""
    return row["model"].endswith(("type 2 of Figure 6", "type 3 of Figure 6"))
