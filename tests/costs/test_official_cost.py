"""The official release's numbers, against what its own scripts computed, its README and the paper."""

from functools import cache
from typing import Any

import pytest
from published_models import PUBLISHED, as_counted, cards_of, counted_part, is_circle, label, printed, slips

from piip.costs.formulas import TokenMap, linear_merging_flops
from piip.costs.official import as_classifier, backbone_cost, classifier_cost, official_cost
from piip.pyramid import BackboneConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.zoo.cards import find_card, list_models

SCRIPTS = PUBLISHED["scripts"]
README = PUBLISHED["readme"]
PAPER = PUBLISHED["paper"]

NAMES = (("", "_fpn_1x_coco_bs16"), ("paper_", "_merge_b"))

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
    config = counted_part(find_card(name), as_built="tsbl" in name and script == "backbone")
    if script == "backbone":
        assert isinstance(config, BackboneConfig)
        return backbone_cost(config, (size, size))
    if isinstance(config, BackboneConfig):
        rebuilt = as_classifier(config)
        assert rebuilt is not None
        config = rebuilt
    return classifier_cost(config, (size, size))


def slip(name: str) -> tuple[int, int]:
    """What the second script counts too little for the interactions, and for branch 4."""
    config = counted_part(find_card(name), as_built="tsbl" in name)
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


@pytest.mark.parametrize("name", ["mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16", CONVNEXTS])
def test_which_script_a_model_is_counted_by(name: str) -> None:
    config = counted_part(find_card(name))
    assert official_cost(config, (1024, 1024)) == (
        backbone_cost(config, (1024, 1024))
        if name == CONVNEXTS
        else classifier_cost(as_classifier(config), (1024, 1024))
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


@pytest.mark.parametrize("row", PAPER, ids=label)
def test_rows_of_the_paper(row: dict[str, Any]) -> None:
    cards = cards_of(row)
    assert len(cards) == (2 if is_circle(row) else 1)
    for card in cards:
        assert card.task in row.get("task", "detection")
        assert card.table == ("" if card.released else row["table"])
        check_row(row, as_counted(counted_part(card)))


def check_row(row: dict[str, Any], config: ClassificationConfig | BackboneConfig) -> None:
    size = max(row["resolution"])
    parts = official_cost(config, (size, size))
    more_flops, more_params = slips(row, config.pyramid)
    assert printed(sum(part.flops for part in parts.values()) + more_flops, row["flops"]) != "no"
    if "params" in row:
        learned = sum(part.params for name, part in parts.items() if row["table"] != "13" or name != "head")
        assert printed(learned + more_params, row["params"]) != "no"
    for name, (params, own_flops) in row.get("parts", {}).items():
        part = parts[name.replace("branch merging", "merging").replace("branch", "branch ")]
        assert printed(part.params, params) != "no"
        assert printed(part.flops, own_flops) != "no"


def test_every_published_figure_is_of_a_row() -> None:
    rows = {card.name: row for row in PAPER for card in cards_of(row)} | {row["name"]: row for row in README}
    for card in map(find_card, list_models()):
        if card.published is not None and card.published.flops is not None:
            row = rows.pop(card.name)
            assert f"{card.published.flops}G" == row["flops"]
            assert card.published.params is None or f"{card.published.params}M" == row["params"]
    assert not rows


def test_merging_of_fewer_branches_costs_less() -> None:
    whole, first = (find_card(f"{prefix}mask_rcnn_deit_tsb_1120_896_448{suffix}") for prefix, suffix in NAMES)
    costs = [official_cost(counted_part(card), (1120, 1120)) for card in (whole, first)]
    maps = TokenMap(28**2, 768), TokenMap(56**2, 384), TokenMap(70**2, 192)
    assert costs[1]["merging"].flops == maps[0].norm
    assert costs[0]["merging"].flops == linear_merging_flops((1, 2, 3), [*maps])
    assert costs[1]["merging"].params < costs[0]["merging"].params
