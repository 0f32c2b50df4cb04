"""`piip info`."""

import json
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from piip import ClassificationConfig
from piip.cli.card_table import card_table
from piip.cli.tasks.parts import merging
from piip.config import load_config
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
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


def cells(text: str) -> list[list[str]]:
    """The rows of all tables with lines."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def what(text: str, part: str) -> str:
    """What is said of a part of a model."""
    rows = cells(text)
    first = next(number for number, row in enumerate(rows) if row[0] == part)
    following = takewhile(lambda row: not row[0], rows[first + 1 :])
    return " ".join(row[1] for row in (rows[first], *following))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "paper_mask_rcnn_deit_tsb_448_672_896",
            [
                ["1 ViT", "896", "16", "768", "14, 4 of 12 global", "12x1", "85.81M"],
                ["2 ViT", "672", "16", "384", "14", "12x1", "21.67M"],
                ["3 ViT", "448", "16", "192", "14", "12x1", "5.53M"],
            ],
        ),
        (
            "mask_rcnn_convnext-t_convnext-s_vit-b_1024_672_448_regular-fpn",
            [
                ["1 ViT", "448", "16", "768", "14", "12x1", "85.81M"],
                ["2 ConvNeXt", "672", "4-32", "96-768", "none", "1x3 2x4 8x3 1x4", "49.45M"],
                ["3 ConvNeXt", "1024", "4-32", "96-768", "none", "1x3 1x4 1x2 8x1 1x4", "27.82M"],
            ],
        ),
        (
            "upernet_internvit_h6b_192_512_80k_ade20k_bs16_lr4e-5",
            [
                ["1 ViT", "192", "16", "3200", "none", "12x4", "5903.01M"],
                ["2 ViT", "512", "16", "1280", "none", "4x2 8x3", "632.06M"],
            ],
        ),
    ],
)
def test_branches(piip: Any, name: str, expected: list[list[str]]) -> None:
    assert [row for row in cells(piip("info", name).out) if len(row) == 7] == expected


@pytest.mark.parametrize(
    ("name", "merged"),
    [
        ("paper_mask_rcnn_deit_tsb_1120_896_448_merge_s", "of branch 2; after stage 12"),
        ("paper_mask_rcnn_deit_tsb_1120_896_448_merge_bt", "of branch 1, 3; after stage 12"),
        ("mask_rcnn_convnext-tsb_1024_672_448_regular-fpn", "of all branches; after stage 1, 2, 11, 12"),
        ("mask_rcnn_deit_vit_b_fpn_1x_coco_bs16", "none: one branch"),
    ],
)
def test_which_branches_are_merged(name: str, merged: str) -> None:
    config = find_card(name).config()
    assert isinstance(config, MaskRCNNConfig)
    assert merging(config.backbone) == merged


@pytest.mark.parametrize(
    ("name", "prepared"),
    [
        (
            "mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16",
            "up to 1120 x 672 px, padded to multiples of 224; mean 0.5; std 0.5",
        ),
        (
            "piip_3branch_tsb_368-192-128_cls_token_deit1",
            "368 px; mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225",
        ),
        (
            "upernet_demo_shapes_192-96-64",
            "shorter side of 192 px, seen as a whole; mean 0.485, 0.456, 0.406; std 0.229, 0.224, 0.225",
        ),
    ],
)
def test_how_images_are_prepared(piip: Any, name: str, prepared: str) -> None:
    assert what(piip("info", name).out, "input") == prepared


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("dino_4scale_deit_384_sbl_1792_1120_672_fpn_3x_coco_bs32_ms", 80),
        ("mask_rcnn_convnext-base_1024_regular-fpn", 80),
        ("mask_rcnn_convnext-t_convnext-s_vit-b_1024_672_448_regular-fpn", 80),
        ("mask_rcnn_internvit_6b_fpn_1x_coco_bs16_ms", 80),
        ("mask_rcnn_uniperceiver_sbl_1568_1120_672_fpn_1x_coco_bs16", 80),
        ("piip_3branch_sbl_384-192-128_cls_token_augreg", 80),
        ("upernet_internvit_h6b_512_512_80k_ade20k_bs16_lr4e-5", 80),
        ("upernet_internvit_h6b_512_512_80k_ade20k_bs16_lr4e-5", 100),
    ],
)
def test_nothing_is_cut(piip: Any, name: str, width: int) -> None:
    out = piip("info", name, width=width).out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width
    assert (find_card(name).checkpoint or "") in re.sub(r"\s", "", out)
    parts = [row[0] for row in costs(out)]
    assert {"interactions", "all"} < set(parts)
    assert len(set(parts)) == len(parts)  # a part in two lines would have a nameless one


def costs(text: str) -> list[list[str]]:
    """The rows of the table of costs."""
    return [row for row in cells(text) if len(row) == 6]


def test_cost(piip: Any) -> None:
    result = piip("info", "mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16")
    assert result.status == 0
    assert "cost of 1120 x 1120 px" in result.out
    table = {row[0]: row[1:] for row in costs(result.out)}
    assert table["all"][:4] == ["146.44M", "243.13G", "195.74M", "586.79G"]
    assert table["FPN"][:2] == ["-", "-"]
    assert table["official head"] == ["0.77M", "8.29M", "-", "-", ""]
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


def test_everything_that_was_asked_for_is_written(piip: Any, tmp_path: Path) -> None:
    name = "piip_demo_shapes_96-48-32"
    result = piip("info", name, "--json", tmp_path / "config.json", "--cost-json", "-", "--size", 64)
    assert result.status == 0
    assert json.loads(result.out)["image_size"] == [64, 64]
    assert load_config(ClassificationConfig, tmp_path / "config.json") == find_config(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--json", "-", "--cost-json", "-"), "--cost-json: - is what --json is written to; name another file"),
        (("--json", "{new}/a.json", "--cost-json", "{new}/a.json"), "a.json is what --json is written to"),
        (("--json", "-", "--gpu", 24), "--gpu: the configuration does not depend on it; add --cost-json"),
        (("--cost-json", "{new}/a.json", "--batch-size", 4), "--batch-size: 4 is of the memory that --gpu asks for"),
        (("--gpu", 24, "--batch-size", 0), "--batch-size: must be at least 1, got 0"),
        (("--json", "-", "--size", 64), "--size: the configuration does not depend on it; add --cost-json"),
        (("--json", "-", "--size", 1, 2, 3), "--size: expected the side of an image, or its height and width"),
        (("--json", "{new}/a.json", "--cost-json", "{file}/b.json"), "--cost-json: the folder"),
        (("--json", "{new}/a.json", "--cost-json", "/dev/null"), "--cost-json: '/dev/null' is a folder or a device"),
        (("--json", "{new}/a.json", "--cost-json", "-", "--size", 1), "too few to be resized"),
    ],
)
def test_nothing_is_written_where_not_all_can_be(
    piip: Any, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    (tmp_path / "file").touch()
    places = {"new": tmp_path / "new", "file": tmp_path / "file"}
    result = piip("info", "piip_demo_shapes_96-48-32", *(str(option).format(**places) for option in options))
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert not list(tmp_path.glob("new/*"))


def test_what_fits_on_a_gpu(piip: Any, model: Path) -> None:
    result = piip("info", model, "--gpu", 0.01)
    assert result.status == 0
    assert "0.01 GiB" in result.out
    lines = [line for line in result.out.splitlines() if line.startswith(("│ inference", "│ training"))]
    assert [line.rstrip("│ ").endswith(("image", "images")) for line in lines] == [True, True]
    assert " none │" in piip("info", model, "--gpu", 0.0001).out
    result = piip("info", model, "--gpu", 0)
    assert result.status == 2
    assert "--gpu: expected more than 0 GiB, got 0" in result.err


def test_memory_of_a_batch(piip: Any, model: Path) -> None:
    shown = piip("info", model, "--gpu", 0.01, "--batch-size", 3)
    assert " 3 images " in shown.out
    options = ("--gpu", 0.01, "--batch-size", 3, "--cost-json", "-")
    counted = json.loads(piip("info", model, *options).out)
    assert "memory for {} x {} px".format(*counted["image_size"]) in shown.out
    memory = counted["memory"]["fits"]
    assert counted["memory"] == {"gpu_gib": 0.01, "precision": "fp32", "fits": memory}
    training = memory["training"]
    assert list(training["memory"]) == ["1", "3"]
    assert (
        training["memory"]["3"]["step"] > training["memory"]["1"]["step"] > memory["inference"]["memory"]["1"]["step"]
    )
    assert f" {training['most_images']} images " in shown.out


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
    trained = [next(line for line in result.out.splitlines() if "│ training" in line) for result in (single, half)]
    assert trained[0] != trained[1]
    result = piip("info", model, "--precision", "bf16")
    assert result.status == 2
    assert "--precision: bf16 is of the memory that --gpu asks for; give --gpu too" in result.err


def test_what_fits_of_a_model_that_cannot_learn_from_one_image(piip: Any, segmentor: Path) -> None:
    result = piip("info", segmentor, "--gpu", 1)
    assert result.status == 0, result.err
    rows = [line.split("│") for line in result.out.splitlines() if line.startswith(("│ inference", "│ training"))]
    run, train = ([cell.strip() for cell in row] for row in rows)
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


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("paper_upernet_internvit_lh6b_640_512_384", "mIoU 59.65, 4560 GFLOPs"),
        ("piip_3branch_sbl_320-160-96_cls_token_augreg", "top-1 85.2, 489M parameters, 39.0 GFLOPs"),
    ],
)
def test_published_figures_are_as_published(name: str, published: str) -> None:
    assert published in list(card_table(find_card(name)).columns[1].cells)
