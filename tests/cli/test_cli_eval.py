"""`piip eval`, in one process and in two."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from piip import ClassificationConfig, SeparateHeadsConfig
from tiny_models import tiny_pyramid
from two_processes import eval_on_two


def test_table(piip: Any, model: Path, data: Path) -> None:
    result = piip("eval", model, "--data", data, "--num-workers", 0, "--per-class")
    assert (result.status, result.err) == (0, "")
    assert "7" in result.out
    assert "100.00 %" in result.out  # top-5 of three classes
    assert all(name in result.out for name in ("circle", "square", "triangle"))
    assert "triangle" not in piip("eval", model, "--data", data, "--num-workers", 0).out


def test_json(piip: Any, model: Path, data: Path, tmp_path: Path) -> None:
    result = piip("eval", model, "--data", data, "--num-workers", 0, "--json", "-", "--batch-size", 2)
    scores = json.loads(result.out)
    assert scores["num_images"] == 7
    assert scores["top5"] == 100
    assert list(scores["per_class"]) == ["circle", "square", "triangle"]
    result = piip("eval", model, "--data", data, "--json", tmp_path / "scores.json", "--split", "val")
    assert "top-1" in result.out
    assert_same(json.loads((tmp_path / "scores.json").read_text()), scores)


def test_classes_that_people_call_the_same(piip: Any, tmp_path: Path) -> None:
    config = ClassificationConfig(
        pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=2), class_names=("n02012849", "n03126707")
    )
    config.build().save_pretrained(tmp_path / "cranes")
    for name in config.class_names:
        folder = tmp_path / "data" / "val" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "0.png")
    arguments = ("eval", tmp_path / "cranes", "--data", tmp_path / "data", "--num-workers", 0)
    scores = json.loads(piip(*arguments, "--json", "-").out)
    assert list(scores["per_class"]) == list(config.class_names)
    assert sorted(scores["per_class"].values()) == [0, 100]  # one picture in both
    table = piip(*arguments, "--per-class").out
    assert all(f"crane ({name})" in table for name in config.class_names)


def assert_same(scores: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same scores but for the rounding of sums in another order."""
    per_class = expected.pop("per_class")
    assert scores.pop("per_class") == pytest.approx(per_class, abs=1e-9)
    assert scores == pytest.approx(expected, abs=1e-5)


def test_lower_precision(piip: Any, model: Path, data: Path) -> None:
    result = piip("eval", model, "--data", data, "--num-workers", 0, "--precision", "bf16")
    assert result.status == 0


def test_random_weights_are_pointed_out(piip: Any, data: Path) -> None:
    result = piip("eval", "piip_demo_shapes_96-48-32", "--data", data)
    assert "this model's weights are random" in result.err
    assert "are not the 1000 classes of the model" in result.err
    assert result.status == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{model}", "--data"),
        ("{model} --data {data}/nothing", "is no folder"),
        ("{model} --data {data} --split test", "test' is no folder"),
        ("{model} --data {data}/val", "is no folder"),
        ("{model} --data {data} --num-workers -1", "num_workers: must be at least 0, got -1"),
        ("{model} --data {data} --batch-size 0", "batch_size: must be at least 1, got 0"),
        ("{model} --data {data} --json {data}", "is a folder or a device"),
        ("{model} --data {data} --device tpu", "--device: 'tpu' cannot be used"),
        ("{model} --data {data} --limit 0", "limit=0 must be at least 1"),
        ("{model} --data {data} --results r.json", "--results: {model} is a classifier, which has no use for it"),
        ("nothing --data {data}", "model: there is no 'nothing'"),
        ("{model} --data {broken} --num-workers 0", "triangle/00000.png': it is not an image"),
        ("{model} --data {broken} --num-workers 1", "triangle/00000.png': it is not an image"),
    ],
)
def test_errors(piip: Any, model: Path, data: Path, broken: Path, arguments: str, message: str) -> None:
    result = piip("eval", *(part.format(model=model, data=data, broken=broken) for part in arguments.split()))
    assert (result.status, result.out) == (2, "")
    assert message.format(model=model) in result.err


def test_some_images_of_all_classes(piip: Any, model: Path, data: Path) -> None:
    arguments = ("eval", model, "--data", data, "--num-workers", 0, "--json", "-", "--limit")
    scores = json.loads(piip(*arguments, 3).out)
    assert scores["num_images"] == 3
    assert None not in scores["per_class"].values()  # one image of each
    assert json.loads(piip(*arguments, 100).out)["num_images"] == 7


@pytest.fixture
def broken(data: Path, tmp_path: Path) -> Path:
    """The dataset with a file that is no image: number 5 of the held-out ones."""
    folder = tmp_path / "broken"
    shutil.copytree(data, folder)
    images = sorted((folder / "val" / "triangle").iterdir())
    images[0].rename(folder / "val" / "triangle" / "00000.png")
    (folder / "val" / "triangle" / "00000.png").write_text("no image")
    return folder


@pytest.mark.slow
def test_two_processes(piip: Any, model: Path, data: Path, broken: Path, tmp_path: Path) -> None:
    calls = [
        ["--data", data, "--json", "-"],
        ["--data", data],
        ["--data", tmp_path / "nothing"],  # fails in both
        ["--data", broken],  # fails in the second, while the first waits for its scores
        ["--dta", data],  # is not understood in both
    ]
    alone = json.loads(piip("eval", model, *calls[0], "--num-workers", 0).out)
    commands = [[str(model), *map(str, arguments), "--batch-size", "1"] for arguments in calls]
    first, second = eval_on_two(commands, tmp_path)

    assert [result[0] for result in first] == [result[0] for result in second] == [0, 0, 2, 2, 2]
    assert_same(json.loads(first[0][1]), alone)
    assert "top-1" in first[1][1]
    assert all(result[1] == "" for result in second)
    assert all(result[2] == "" for result in first[:2] + second[:2])
    for case, message in ((2, "is no folder"), (3, "00000.png': it is not an image"), (4, "--data")):
        complaints = [result[2] for result in (first[case], second[case]) if result[2]]
        assert len(complaints) == 1
        assert message in complaints[0]
        assert "Traceback" not in complaints[0]
    assert message in first[4][2]
