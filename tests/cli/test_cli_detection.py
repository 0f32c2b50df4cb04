"""`piip eval`, `piip predict` and `piip info` of a detector."""

import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from piip.cli import tasks
from piip.cli.tasks.detection_tables import score_table
from piip.config import load_config
from piip.images import find_images
from piip.rle import runs_to_mask, unpack_runs
from piip.tasks.detection.coco import coco_paths, read_coco
from piip.tasks.detection.data import EvaluationSet
from piip.tasks.detection.evaluation import evaluate
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.tasks.detection.masks import mask_chunks
from piip.tasks.detection.metric import CocoScores
from piip.tasks.detection.prediction import predict
from piip.zoo.load import find_config
from two_processes import eval_on_two

MEASURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def test_scores(piip: Any, detector: Path, coco: Path, tmp_path: Path) -> None:
    arguments = ("eval", detector, "--data", coco, "--num-workers", 0, "--json", tmp_path / "scores.json")
    result = piip(*arguments, "--results", tmp_path / "results" / "found.json", "--per-class")
    assert result.status == 0
    assert "5 images, " in result.err
    assert max(map(len, result.out.splitlines())) <= 100
    title, header, _, box, mask, *classes = result.out.splitlines()
    assert title.strip() == "5 images"
    assert header.split() == MEASURES
    assert [line.split()[0] for line in (box, mask)] == ["box", "mask"]
    assert all(any(name in line for line in classes) for name in ("circle", "square", "triangle"))

    model = MaskRCNN.from_pretrained(detector)
    annotations = read_coco(*coco_paths(coco, "val"), model.config.class_names)
    expected = evaluate(model, EvaluationSet(annotations, model.config.preprocess.build()), size_divisor=32)
    assert expected.mask is not None
    scores = json.loads((tmp_path / "scores.json").read_text())
    for kind, own in (("box", expected.box), ("mask", expected.mask)):
        assert len(scores[kind]) == 13
        assert list(scores[kind]["per_class"]) == ["circle", "square", "triangle"]
        assert tuple(scores[kind].pop("per_class").values()) == pytest.approx(own.per_class)
        assert all(value == pytest.approx(getattr(own, name)) for name, value in scores[kind].items())
    found = json.loads((tmp_path / "results" / "found.json").read_text())
    assert {entry["image_id"] for entry in found} == set(annotations.image_ids.tolist())
    assert set(found[0]) == {"image_id", "category_id", "bbox", "score", "segmentation"}


def test_scores_have_room_in_80_columns() -> None:
    perfect = CocoScores(**dict.fromkeys((field.name for field in fields(CocoScores)), 100.0))
    console = Console(width=80, file=io.StringIO())
    console.print(score_table(1, {"box": perfect, "mask": perfect}))
    title, header, _, *rows = console.file.getvalue().splitlines()
    assert title.strip() == "1 image"
    assert header.split() == MEASURES
    assert [row.split() for row in rows] == [[kind, *["100.0"] * 12] for kind in ("box", "mask")]


def test_a_file_that_names_the_dataset(piip: Any, detector: Path, coco: Path, tmp_path: Path) -> None:
    file, images = coco_paths(coco, "val")
    data = json.loads(file.read_text())
    data["annotations"].append(data["annotations"][0] | {"image_id": 999})
    (tmp_path / "mine.json").write_text(json.dumps(data))
    (tmp_path / "data.json").write_text(json.dumps({"mine": {"annotations": "mine.json", "images": str(images)}}))
    arguments = ("eval", detector, "--data", tmp_path / "data.json", "--num-workers", 0)
    result = piip(*arguments, "--split", "mine", "--limit", 2)
    assert result.status == 0
    assert "2 images" in result.out
    assert "1 annotations of an unknown image" in result.err
    result = piip(*arguments, "--split", "mien")
    assert result.status == 2
    assert "data.json: has no split 'mien'" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data {tmp}", "has no annotations/instances_val2017.json"),
        ("--data {tmp}/nothing.json", "nothing.json: there is no such file"),
        ("--data {coco} --split test", "has no annotations/instances_test2017.json"),
        ("--data {coco} --limit 0", "limit=0 must be at least 1"),
        ("--data {coco} --batch-size 0", "batch_size: must be at least 1, got 0"),
        ("--data {coco} --results {tmp}", "--results: '{tmp}' is a folder or a device; name a file"),
    ],
)
def test_eval_errors(piip: Any, detector: Path, coco: Path, tmp_path: Path, arguments: str, message: str) -> None:
    result = piip("eval", detector, *arguments.format(coco=coco, tmp=tmp_path).split())
    assert (result.status, result.out) == (2, "")
    assert message.format(tmp=tmp_path) in result.err


def test_categories_that_are_not_the_models(piip: Any, detector: Path, coco: Path, tmp_path: Path) -> None:
    file, images = coco_paths(coco, "val")
    data = json.loads(file.read_text())
    data["categories"].append({"id": 9, "name": "heart"})
    (tmp_path / "more.json").write_text(json.dumps(data))
    (tmp_path / "data.json").write_text(json.dumps({"val": {"annotations": "more.json", "images": str(images)}}))
    result = piip("eval", detector, "--data", tmp_path / "data.json")
    assert result.status == 2
    assert "'heart'" in result.err
    config = json.loads((detector / "config.json").read_text()) | {"class_names": []}
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    (nameless / "config.json").write_text(json.dumps(config))
    (nameless / "model.safetensors").write_bytes((detector / "model.safetensors").read_bytes())
    result = piip("eval", nameless, "--data", tmp_path / "data.json")
    assert result.status == 2
    assert "more.json: 4 categories, but the model has 3 classes" in result.err
    assert piip("eval", nameless, "--data", coco, "--num-workers", 0, "--limit", 1).status == 0


@pytest.mark.slow
def test_two_processes(piip: Any, detector: Path, coco: Path, tmp_path: Path) -> None:
    arguments = [str(detector), "--data", str(coco), "--results"]
    alone = piip("eval", *arguments, tmp_path / "alone.json", "--num-workers", 0, "--json", "-")
    calls = [[*arguments, str(tmp_path / "both.json"), "--json", "-"], arguments[:3]]
    first, second = eval_on_two(calls, tmp_path)
    assert [first[0][0], first[1][0], second[0][0], second[1][0]] == [0, 0, 0, 0]
    scores, expected = json.loads(first[0][1]), json.loads(alone.out)
    for kind in ("box", "mask"):
        assert scores[kind].pop("per_class") == pytest.approx(expected[kind].pop("per_class"))
        assert scores[kind] == pytest.approx(expected[kind])
    assert "AP50" in first[1][1]
    assert [second[0][1:], second[1][1:]] == [["", ""], ["", ""]]
    found, single = (json.loads((tmp_path / name).read_text()) for name in ("both.json", "alone.json"))
    assert [entry["image_id"] for entry in found] == [entry["image_id"] for entry in single]


def test_pictures_and_json(piip: Any, detector: Path, coco: Path, tmp_path: Path) -> None:
    images = find_images([coco / "val2017"])
    out = tmp_path / "out"
    result = piip("predict", detector, *images, "--out", out, "--json", out / "all.json", "--threshold", 0.1)
    assert result.status == 0
    assert max(map(len, result.out.splitlines())) <= 100
    model = MaskRCNN.from_pretrained(detector)
    expected = dict(predict(model, model.config.preprocess, images, threshold=0.1))
    written = json.loads((out / "all.json").read_text())
    assert list(written) == [str(path) for path in images]
    assert any(written.values())
    for path, detections in expected.items():
        entries = written[str(path)]
        assert [entry["label"] for entry in entries] == detections.labels.tolist()
        assert [entry["name"] for entry in entries] == [model.config.class_names[n] for n in detections.labels.tolist()]
        np.testing.assert_allclose([entry["score"] for entry in entries], detections.scores, atol=1e-5)
        np.testing.assert_allclose(
            np.reshape([entry["box"] for entry in entries], (-1, 4)), detections.boxes.numpy(), atol=1e-3
        )
        masks = [mask for chunk in mask_chunks(detections) for mask in chunk.numpy()]
        for entry, mask in zip(entries, masks, strict=True):
            runs = unpack_runs(entry["mask"]["counts"])
            assert (runs_to_mask(runs, tuple(entry["mask"]["size"])) == mask).all()
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == len(images)
    found = next(number for number, path in enumerate(images) if written[str(path)])
    plain = Image.open(images[found]).convert("RGB").resize((320, 320), Image.Resampling.BICUBIC)
    assert (np.asarray(Image.open(pictures[found])) != np.asarray(plain)).any()


def test_nothing_found(piip: Any, detector: Path, coco: Path) -> None:
    result = piip("predict", detector, coco / "val2017", "--threshold", 1)
    assert result.status == 0
    assert result.out.count("nothing found") == 5


def test_chosen_classes(piip: Any, detector: Path, coco: Path) -> None:
    arguments = ("predict", detector, coco / "val2017", "--threshold", 0.1, "--json", "-")
    found = json.loads(piip(*arguments).out)
    chosen = json.loads(piip(*arguments, "--classes", "circle", "square").out)
    assert any(found.values())
    for path, entries in found.items():
        assert chosen[path] == [entry for entry in entries if entry["name"] != "triangle"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--top 3", "--top: {detector} is a detector, which has no use for it; leave it out"),
        ("--classes circel", "--classes: the model has no class 'circel'; did you mean 'circle'?"),
        ("--threshold 1.5", "threshold: must be within 0...1, got 1.5"),
        ("--batch-size 0", "batch_size: must be at least 1, got 0"),
    ],
)
def test_predict_errors(piip: Any, detector: Path, coco: Path, arguments: str, message: str) -> None:
    result = piip("predict", detector, coco / "val2017", *arguments.split())
    assert (result.status, result.out) == (2, "")
    assert message.format(detector=detector) in result.err


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_random_weights_are_pointed_out(piip: Any, detector: Path, coco: Path, command: str, monkeypatch: Any) -> None:
    module = f"piip.cli.{command}_command"
    monkeypatch.setattr(f"{module}.find_config", lambda _: load_config(MaskRCNNConfig, detector / "config.json"))
    monkeypatch.setattr(f"{module}.create_model", lambda *_, **__: MaskRCNN.from_pretrained(detector))
    inputs = ["--data", coco, "--num-workers", 0, "--limit", 1] if command == "eval" else [coco / "val2017"]
    result = piip(command, "a_named_detector", *inputs)
    assert result.status == 0
    assert "this model's weights are random" in result.err


def test_parts(piip: Any, detector: Path) -> None:
    result = piip("info", detector)
    assert result.status == 0
    assert max(map(len, result.out.splitlines())) <= 100
    parts = (
        "after each of 2 stages",
        "strides 4, 8, 16, 32; 32, 32, 32, 32 channels",
        "RPN",
        "3 classes",
        "28 x 28",
        "96 x 96 px",
    )
    assert all(part in result.out for part in parts)
    parameters = sum(parameter.numel() for parameter in MaskRCNN.from_pretrained(detector).parameters())
    assert f"{parameters / 1e6:.2f}M" in result.out


def test_every_task_is_known() -> None:
    configs = get_args(get_type_hints(find_config)["return"])
    assert len(configs) > 1
    assert set(tasks._TASKS) == set(configs)
