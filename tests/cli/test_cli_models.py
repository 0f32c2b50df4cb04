"""`piip models`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from piip import list_models
from piip.cli import models_command
from piip.plots import Point
from piip.zoo.cards import find_card


@pytest.mark.parametrize(("width", "note"), [(80, 2), (100, 1)])
def test_two_lines_for_each_model(piip: Any, width: int, note: int) -> None:
    result = piip("models", width=width)
    assert result.status == 0
    lines = result.out.splitlines()
    names = [line for line in lines if "_" in line]
    assert sorted(names) == list_models()
    assert max(map(len, lines)) <= width
    assert len(lines) == 2 * len(names) + 6 + note  # three headers, three empty lines, a note
    for name in names:
        card = find_card(name)
        assert lines[lines.index(name) + 1].split("  ")[1] == card.summary


def test_a_name_wider_than_the_terminal_is_whole(piip: Any) -> None:
    name = "mask_rcnn_convnext-t_convnext-s_vit-b_1024_672_448_regular-fpn"
    assert name in piip("models", width=40).out.splitlines()


def test_published_figures_are_as_published(piip: Any) -> None:
    lines = piip("models", width=80).out.splitlines()

    def figures(name: str) -> list[str]:
        return lines[lines.index(name) + 1].removeprefix(f"  {find_card(name).summary}").split()

    assert figures("paper_upernet_internvit_lh6b_640_512_192") == ["1903G", "57.82"]
    assert figures("piip_3branch_sbl_320-160-96_cls_token_augreg") == ["489M", "39.0G", "85.2"]
    assert figures("dino_4scale_internvit_h6b_1024_768_fpn_1x_coco_bs32_ms") == ["60.0"]
    for name in list_models():
        published = find_card(name).published
        numbers = [] if published is None else [published.params, published.flops, *published.scores.values()]
        printed = re.findall(r"[\d.]+", " ".join(figures(name)))
        assert printed == [str(number) for number in numbers if number is not None], name


def test_patterns(piip: Any) -> None:
    result = piip("models", "*tsb*")
    assert sorted(word for word in result.out.split() if "tsb" in word) == list_models("*tsb*")


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("piip_demo", "; try '*piip_demo*' (* stands for anything)"),
        ("*tsb", "; try '*tsb*' (* stands for anything)"),
        ("MASK_RCNN*", "; try '*mask_rcnn*' (* stands for anything)"),
        (
            "piip_dmo_shapes_96-48-32",
            "; did you mean 'piip_demo_shapes_96-48-32'? (* stands for anything, as in '*tsb*')",
        ),
        ("resnet50", " (* stands for anything, as in '*tsb*')"),
        ("", " (* stands for anything, as in '*tsb*')"),
    ],
)
def test_patterns_that_match_nothing(piip: Any, pattern: str, hint: str) -> None:
    result = piip("models", pattern)
    assert (result.status, result.out) == (2, "")
    assert result.err == f"error: PATTERN: no model matches {pattern!r}{hint}\n"


def test_what_is_tried_instead_matches(piip: Any) -> None:
    names = [line for line in piip("models", "*mask_rcnn*").out.splitlines() if "_" in line]
    assert names == list_models("*mask_rcnn*")


def test_json(piip: Any, tmp_path: Path) -> None:
    printed = json.loads(piip("models", "--json", "-").out)
    assert [card["name"] for card in printed] == list_models()
    released = [card["name"] for card in printed if card["checkpoint"]]
    assert not any("demo" in name or name.startswith("paper_") for name in released)
    assert len(released) == 41
    published = {card["name"]: card["published"] for card in printed}
    assert published["piip_3branch_tsb_368-192-128_cls_token_deit1"] == {
        "scores": {"top1": 82.1},
        "params": 144,
        "flops": 17.4,
    }
    assert printed[0]["task"] == "detection"
    assert piip("models", "--json", tmp_path / "new" / "models.json").out == ""
    assert json.loads((tmp_path / "new" / "models.json").read_text()) == printed


def test_the_models_of_a_task(piip: Any) -> None:
    result = piip("models", "--task", "classification")
    assert sorted(word for word in result.out.split() if "_" in word) == list_models(task="classification")
    assert "mask_rcnn" not in result.out
    result = piip("models", "mask*", "--task", "classification")
    assert (result.status, result.out) == (2, "")
    assert "PATTERN: no model for classification matches 'mask*'" in result.err


def test_a_plot_of_scores(piip: Any, tmp_path: Path) -> None:
    result = piip("models", "mask_rcnn_deit_tsb*", "--plot", tmp_path / "new" / "scores.png")
    assert (result.status, result.out) == (0, "")
    with Image.open(tmp_path / "new" / "scores.png") as plot:
        assert plot.format == "PNG"
        assert plot.width > 1000
    assert result.err == f"plot: {tmp_path / 'new' / 'scores.png'}\n"
    result = piip("models", "paper_*_tsb_1120_896_448_circle*", "--plot", tmp_path / "none.png")
    assert "none of these models has both a published score and published FLOPs" in result.err
    result = piip("models", "paper_*_tsb_1120_896_448_[ac]*", "--plot", tmp_path / "some.png")
    assert "some.png, without 2 of the models, of which no score or FLOPs are published" in " ".join(result.err.split())


def test_the_groups_of_a_plot_are_families(piip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Point] = []

    def plot(points: list[Point], **_: str) -> Image.Image:
        drawn[:] = points
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(models_command, "plot_points", plot)
    assert piip("models", "--task", "classification", "--plot", tmp_path / "plot.png").status == 0
    assert {point.group for point in drawn} >= {"AugReg L, B, S", "DeiT B, S, T", "ViT-640, ViT-320, ViT-160"}
    assert {point.name for point in drawn if point.group == "AugReg L, B, S"} == {"96/160/320", "128/192/384"}
    assert piip("models", "*tsb_1120*", "--task", "detection", "--plot", tmp_path / "plot.png").status == 0
    assert {point.group for point in drawn} >= {"DeiT B, S, T", "DeiT B, S, T 12 regular", "DeiT B, S, T in turn"}
    assert piip("models", "--task", "segmentation", "--plot", tmp_path / "plot.png").status == 0
    assert {point.group for point in drawn} >= {"DeiT L, B, S", "DeiT B, S, T", "InternViT 6B, MAE H, DeiT L"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--plot: these models have scores of different kinds; add --task detection or --task"),
        (("*demo*", "--task", "detection"), "--plot: none of these models has both a published score and published"),
    ],
)
def test_plots_of_nothing_are_refused(piip: Any, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = piip("models", *arguments, "--plot", tmp_path / "scores.png")
    assert result.status == 2
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_plots_are_png_and_nothing_that_was_asked_for_is_left_out(piip: Any, tmp_path: Path) -> None:
    json_file = ("--json", tmp_path / "models.json")
    result = piip("models", "*tsb*", "--task", "detection", *json_file, "--plot", tmp_path / "scores.jpg")
    assert result.status == 2
    assert "must end in .png" in result.err
    assert piip("models", *json_file, "--plot", tmp_path / "scores.png").status == 2
    assert not list(tmp_path.iterdir())
    result = piip("models", "*tsb*", "--task", "detection", *json_file, "--plot", tmp_path / "scores.png")
    assert (result.status, result.out) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models.json", "scores.png"]
