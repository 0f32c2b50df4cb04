"""`piip info`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from piip import ClassificationConfig
from piip.cli.card_table import card_table
from piip.config import load_config
from piip.zoo.cards import find_card
from piip.zoo.load import find_config


def test_parts_and_parameters(piip: Any) -> None:
    result = piip("info", "piip_3branch_tsb_368-192-128_cls_token_deit1")
    assert result.status == 0
    parts = ("after each of 12 stages: 3→2, 2→3, 2→1, 1→2; deformable, 16 heads", "1000 classes", "144.03M")
    assert all(part in result.out for part in parts)
    assert max(map(len, result.out.splitlines())) <= 100


def test_a_saved_model(piip: Any, model: Path) -> None:
    result = piip("info", model)
    assert result.status == 0
    assert str(model) in result.out.replace("\n", "")
    assert "SeparateHeads, 3 classes" in result.out


@pytest.mark.parametrize("name", ["piip_demo_shapes_96-48-32", None])
def test_json_is_a_configuration(piip: Any, model: Path, tmp_path: Path, name: str | None) -> None:
    chosen = name or model
    result = piip("info", chosen, "--json", "-")
    assert result.status == 0
    (tmp_path / "config.json").write_text(result.out)
    assert load_config(ClassificationConfig, tmp_path / "config.json") == find_config(chosen)
    assert piip("info", tmp_path).status == 0


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the table of costs."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    return {row[0]: row[1:] for row in cells if len(row) == 6}


def test_cost(piip: Any) -> None:
    result = piip("info", "mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16")
    assert result.status == 0
    assert "cost of 1120 x 1120 px" in result.out
    table = rows(result.out)
    assert table["all"][:4] == ["146.44M", "243.13G", "195.74M", "586.79G"]
    assert table["FPN"][:2] == ["-", "-"]
    assert table["official head"][2:] == ["-", "-", ""]
    assert "without the convolutions that merge" in result.out.replace("\n", " ").replace("  ", " ")
    assert max(map(len, result.out.splitlines())) <= 100


def test_cost_as_json(piip: Any, tmp_path: Path) -> None:
    name = "piip_demo_shapes_96-48-32"
    result = piip("info", name, "--size", 96, 192, "--cost-json", tmp_path / "cost.json")
    assert (result.status, result.out) == (0, "")
    wide = json.loads((tmp_path / "cost.json").read_text())
    assert wide["image_size"] == [96, 192]
    assert sum(part["flops"] for part in wide["parts"]) == wide["flops"]
    assert json.loads(piip("info", name, "--cost-json", "-").out)["flops"] < wide["flops"]


def test_what_fits_on_a_gpu(piip: Any, model: Path) -> None:
    result = piip("info", model, "--gpu", 0.01)
    assert result.status == 0
    assert "fit in 0.01 GiB" in result.out
    lines = [line for line in result.out.splitlines() if "to run" in line or "to train" in line]
    assert [line.rstrip("│ ").endswith(("image", "images")) for line in lines] == [True, True]
    assert " none │" in piip("info", model, "--gpu", 0.0001).out
    result = piip("info", model, "--gpu", 0)
    assert result.status == 2
    assert "--gpu: expected more than 0 GiB, got 0" in result.err


@pytest.mark.parametrize("sides", [(0,), (1, 2, 3)])
def test_size_is_checked(piip: Any, sides: tuple[int, ...]) -> None:
    result = piip("info", "piip_demo_shapes_96-48-32", "--size", *sides)
    assert result.status == 2
    assert f"--size: expected the side of an image, or its height and width, got {sides}" in result.err


def test_errors(piip: Any, tmp_path: Path) -> None:
    result = piip("info", tmp_path)
    assert result.status == 2
    assert "has no config.json" in result.err
    (tmp_path / "config.json").write_text("{")
    result = piip("info", tmp_path)
    assert result.status == 2
    assert "config.json: cannot be read as JSON" in result.err


def test_the_card_of_a_named_model(piip: Any) -> None:
    result = piip("info", "mask_rcnn_internvit_h6b_1024_512_fpn_1x_coco_bs16_ms")
    assert result.status == 0
    text = " ".join(result.out.split())
    assert "pretraining InternViT-6B, MAE ViT-H" in text
    assert "published 6872M parameters, 11080 GFLOPs" in text
    assert "OpenGVLab/PIIP, detection/mask_rcnn_internvit_h6b_1024_512_fpn_1x_coco_bs16_ms.pth" in text
    assert "non-commercial" in text
    assert "none were released" in piip("info", "paper_piip_b_512-256-128_from_scratch").out


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("paper_upernet_internvit_lh6b_640_512_384", "mIoU 59.65, 4560 GFLOPs"),
        ("piip_3branch_sbl_320-160-96_cls_token_augreg", "top-1 85.2, 489M parameters, 39.0 GFLOPs"),
    ],
)
def test_published_figures_are_as_published(name: str, published: str) -> None:
    assert published in list(card_table(find_card(name)).columns[1].cells)


def test_nothing_of_a_card_is_cut(piip: Any) -> None:
    """The name of the checkpoint is longer than the line."""
    name = "mask_rcnn_convnext-t_convnext-s_vit-b_1024_672_448_regular-fpn"
    result = piip("info", name, width=80)
    assert f"detection/{name}.pth" in re.sub(r"\s", "", result.out)
