"""`piip info`."""

import json
from pathlib import Path
from typing import Any

import pytest

from piip import ClassificationConfig
from piip.config import load_config
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


def test_what_fits_in_another_precision(piip: Any, model: Path) -> None:
    single, same, half = (
        piip("info", model, "--gpu", 0.01, *options)
        for options in ((), ("--precision", "fp32"), ("--precision", "bf16"))
    )
    assert half.status == 0, half.err
    assert single.out == same.out
    assert "Estimated for fp32, without" in single.out
    assert "Estimated for bf16 autocast, with weights in fp32 that are cast for each batch, without" in " ".join(
        half.out.split()
    )
    trained = [next(line for line in result.out.splitlines() if "to train" in line) for result in (single, half)]
    assert trained[0] != trained[1]
    result = piip("info", model, "--precision", "bf16")
    assert result.status == 2
    assert "--precision: bf16 is of the memory that --gpu asks for; give --gpu too" in result.err


def test_what_fits_of_a_model_that_cannot_learn_from_one_image(piip: Any, segmentor: Path) -> None:
    result = piip("info", segmentor, "--gpu", 1)
    assert result.status == 0, result.err
    run, train = ([cell.strip() for cell in line.split("│")] for line in result.out.splitlines() if "│ to " in line)
    assert run[4].endswith("MiB")
    assert train[4] == "-"
    assert train[6].endswith(" images")


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
