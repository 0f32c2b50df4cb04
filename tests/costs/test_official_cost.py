"""The official release's numbers, against what its own scripts computed, its README and the paper."""

import math
from functools import cache
from typing import Any

import pytest
from published_models import PUBLISHED, paper_model, released

from piip.costs.formulas import TokenMap
from piip.costs.official import as_classifier, backbone_cost, classifier_cost, official_cost
from piip.pyramid import BackboneConfig, PyramidConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.zoo.cards import ModelCard, find_card, list_models

SCRIPTS = PUBLISHED["scripts"]
README = PUBLISHED["readme"]
PAPER = PUBLISHED["paper"]

CONVNEXTS = "mask_rcnn_convnext-tsb_1024_672_448_regular-fpn"

# What only the second script gets wrong, for models that the release's tables have from the first one.
SLIPS = {
    # It takes the positions of pretraining for the grids of deformable attention where there are 2 or 4 branches, ...
    "dino_4scale_internvit_h6b_1024_768_fpn_1x_coco_bs32_ms": (768, 1024),
    "mask_rcnn_internvit_h6b_1024_512_fpn_1x_coco_bs16_ms": (512, 1024),
    "mask_rcnn_internvit_h6b_1024_512_fpn_1x_coco_bs16_ms_speedup": (512, 1024),
    "mask_rcnn_deit_tsbl_1344_896_672_448_fpn_1x_coco_bs16": (448, 672, 896, 1344),
    "mask_rcnn_deit_tsbl_1568_1120_672_448_fpn_1x_coco_bs16": (448, 672, 1120, 1568),
    "mask_rcnn_deit_tsbl_1792_1568_1120_448_fpn_1x_coco_bs16": (448, 1120, 1568, 1792),
}
# ... and counts two transposed convolutions and a norm that the official model for DINO has and never calls.
UNUSED_LEVEL = {
    "dino_4scale_deit_384_sbl_1792_1120_672_fpn_3x_coco_bs32_ms": 1024,
    "dino_4scale_internvit_lh6b_1536_1024_512_fpn_2x_coco_bs32_ms": 3200,
}


@cache
def count(name: str, script: str) -> dict[str, Any]:
    size = SCRIPTS[script][name]["size"]
    config = released(name, as_built="tsbl" in name and script == "backbone")
    if script == "backbone":
        assert isinstance(config, BackboneConfig)
        return backbone_cost(config, (size, size))
    if isinstance(config, BackboneConfig):
        rebuilt = as_classifier(config.pyramid)
        assert rebuilt is not None
        config = rebuilt
    return classifier_cost(config, (size, size))


def slip(name: str) -> tuple[int, int]:
    """What the second script counts too little for the interactions, and for branch 4."""
    config = released(name, as_built="tsbl" in name)
    assert isinstance(config, BackboneConfig)
    widths = [branch.channels[-1] for branch in config.pyramid.branches]
    cells = [(size // 16) ** 2 for size in SLIPS[name]]
    read = [1] + [2] * (len(widths) - 2) + [1]  # edges that lead to each branch
    deformable = sum(
        12 * 5 * 4 * edges * (own - 14**2) * width for own, width, edges in zip(cells, widths, read, strict=True)
    )
    # Branch 4 is a copy of branch 3, but the formula of its self-attention has the width in its own arguments.
    return deformable, 12 * 2 * cells[3] * 28**2 * (384 - 192) if len(widths) == 4 else 0


@pytest.mark.parametrize(("script", "name"), [(script, name) for script, names in SCRIPTS.items() for name in names])
def test_to_the_unit(script: str, name: str) -> None:
    expected = SCRIPTS[script][name]
    parts = count(name, script)
    flops = {part: amount.flops for part, amount in parts.items()}
    params = {part: amount.params for part, amount in parts.items()}
    if script == "backbone" and name in SLIPS:
        deformable, fourth = slip(name)
        flops["interactions"] -= deformable
        flops["branch 4"] = flops.get("branch 4", 0) - fourth
    if script == "backbone" and name in UNUSED_LEVEL:
        width = UNUSED_LEVEL[name]
        params["levels"] += 2 * (4 * width**2 + width) + 2 * width
    assert sum(flops.values()) == expected["flops"]
    assert sum(params.values()) == expected["params"]
    if "head" in flops and "head" not in expected["flops_by_part"]:  # the script counts heads with their branches
        flops, params = ({"interactions": numbers["interactions"]} for numbers in (flops, params))
    expected_flops, expected_params = expected["flops_by_part"], expected["params_by_part"]
    assert {part: number for part, number in flops.items() if number} == {
        part: expected_flops[part] for part, number in expected_flops.items() if number and part in flops
    }
    assert {part: number for part, number in params.items() if number} == {
        part: expected_params[part] for part, number in expected_params.items() if number and part in params
    }


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


@pytest.mark.parametrize("name", ["mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16", CONVNEXTS])
def test_which_script_a_model_is_counted_by(name: str) -> None:
    config = released(name)
    assert official_cost(config, (1024, 1024)) == (
        backbone_cost(config, (1024, 1024))
        if name == CONVNEXTS
        else classifier_cost(as_classifier(config.pyramid), (1024, 1024))
    )


@pytest.mark.parametrize("row", README, ids=lambda row: row["row"])
def test_rows_of_the_readme(row: dict[str, Any]) -> None:
    name = row["name"]
    parts = count(name, row["script"]).values()
    assert printed(sum(part.flops for part in parts), row["flops"]) == row["matches"]["flops"] != "no"
    if row["params"] is not None:
        # One count of parameters is not what the official code gives: InternViT-6B of 512 pixels, 5909M, not 5910M.
        is_wrong = name == "upernet_internvit_6b_512_80k_ade20k_bs16_lr4e-5"
        how = printed(sum(part.params for part in parts), row["params"])
        assert how == row["matches"]["params"]
        assert (how == "no") == is_wrong


def label(row: dict[str, Any]) -> str:
    more = [row["attention"]] if "attention" in row else []
    more += [f"{row['interactions']} interactions"] if "interactions" in row else []
    return " ".join([f"table {row['table']}:", row["model"], *map(str, row["resolution"]), *more])


def slips_of_paper(row: dict[str, Any], pyramid: PyramidConfig) -> tuple[float, int]:
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
    if row["model"].endswith(("type 2 of Figure 6", "type 3 of Figure 6")):
        # The formula of deformable attention for both directions between two branches, whichever there are.
        edges = pyramid.interaction.edges_between(3)
        others = [(source, query) for query, source in edges if (source, query) not in edges]
        return sum(12 * 5 * 4 * cells[query - 1] * pyramid.channels[query - 1] for query, _ in others), 0
    if row["model"] == "DeiT-B":
        # One of the two products of attention; the ViT-L of the same table is counted with both.
        return -12 * cells[0] ** 2 * pyramid.channels[0], 0
    return 0, 0


@pytest.mark.parametrize("row", PAPER, ids=label)
def test_rows_of_the_paper(row: dict[str, Any]) -> None:
    size = max(row["resolution"])
    config = paper_model(row)
    parts = official_cost(config, (size, size))
    more_flops, more_params = slips_of_paper(row, config.pyramid)
    assert printed(sum(part.flops for part in parts.values()) + more_flops, row["flops"]) != "no"
    if "params" in row:
        learned = sum(part.params for name, part in parts.items() if row["table"] != "13" or name != "head")
        assert printed(learned + more_params, row["params"]) != "no"
    for name, (params, own_flops) in row.get("parts", {}).items():
        part = parts[name.replace("branch merging", "merging").replace("branch", "branch ")]
        assert printed(part.params, params) != "no"
        assert printed(part.flops, own_flops) != "no"


def cards_of(row: dict[str, Any]) -> list[ModelCard]:
    """The cards of this cost and these scores, on images of these sizes."""
    sides = "[_-]".join(str(side) for side in reversed(row["resolution"]))
    cards = [find_card(name) for name in list_models(f"*[!0-9]{sides}*")]
    return [card for card in cards if is_published_so(card, row) and costs_what_follows(card, row)]


def is_published_so(card: ModelCard, row: dict[str, Any]) -> bool:
    if card.published is None or card.published.flops != float(row["flops"].removesuffix("G")):
        return False
    return all(row.get(metric, score) == score for metric, score in card.published.scores.items())


def costs_what_follows(card: ModelCard, row: dict[str, Any]) -> bool:
    """As the model that the printed FLOPs follow from; an InternViT pads what it projects in windows, that does not."""
    size, config = max(row["resolution"]), card.config()
    own = config if isinstance(config, ClassificationConfig) else config.backbone
    costs = [official_cost(model, (size, size)) for model in (own, paper_model(row))]
    if "6B" in row["branches"]:
        costs = [{"interactions": cost["interactions"]} for cost in costs]
    return costs[0].keys() == costs[1].keys() and all(costs[0][part].flops == costs[1][part].flops for part in costs[0])


@pytest.mark.parametrize("row", [row for row in PAPER if len(row["resolution"]) > 1], ids=label)
def test_pyramids_of_the_paper_have_cards(row: dict[str, Any]) -> None:
    (card,) = cards_of(row)
    assert card.task in row.get("task", "detection")
