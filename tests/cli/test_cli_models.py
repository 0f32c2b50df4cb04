"""`piip models`."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from piip import list_models


def test_two_lines_for_each_model(piip: Any) -> None:
    result = piip("models")
    assert result.status == 0
    lines = [line for line in result.out.splitlines() if "_" in line.split(" ")[0]]
    assert sorted(line.split()[0] for line in lines) == list_models()
    assert max(map(len, result.out.splitlines())) <= 100
    assert all(figure in result.out for figure in ("82.1", "85.2", "85.9", "489M", "17.4G", "43.9/38.6"))
    assert "…" not in result.out
    assert len(result.out.splitlines()) == 2 * len(lines) + 7  # three headers, three empty lines, a note


def test_patterns(piip: Any) -> None:
    result = piip("models", "*tsb*")
    assert sorted(word for word in result.out.split() if "tsb" in word) == list_models("*tsb*")
    result = piip("models", "piip_demo")
    assert (result.status, result.out) == (2, "")
    assert "PATTERN: no model matches 'piip_demo'" in result.err


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
    result = piip("models", "*tsb*", "--task", "detection", "--plot", tmp_path / "scores.jpg")
    assert result.status == 2
    assert "must end in .png" in result.err
    files = ("--json", tmp_path / "models.json", "--plot", tmp_path / "scores.png")
    assert piip("models", "*tsb*", "--task", "detection", *files).status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models.json", "scores.png"]
