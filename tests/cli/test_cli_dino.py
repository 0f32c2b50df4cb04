"""`piip train`, `piip eval`, `piip predict` and `piip info` of a DINO."""

import json
from pathlib import Path
from typing import Any

import pytest

from piip.config import read_json
from piip.images import find_images
from piip.shapes import SHAPE_NAMES
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.coco import coco_paths
from piip.tasks.detection.dino import DINO
from piip.tasks.detection.prediction import predict
from tiny_dino import tiny_dino
from tiny_models import randomised


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved DINO of three classes."""
    config = tiny_dino(class_names=SHAPE_NAMES[:3], preprocess=DetectionPreprocessConfig(scale=(96, 96)))
    folder = tmp_path_factory.mktemp("models") / "dino"
    randomised(config.build()).save_pretrained(folder)
    return folder


def test_scores_of_boxes_alone(piip: Any, dino: Path, coco: Path, tmp_path: Path) -> None:
    arguments = ("eval", dino, "--data", coco, "--num-workers", 0, "--json", tmp_path / "scores.json")
    result = piip(*arguments, "--results", tmp_path / "found.json", "--per-class")
    assert result.status == 0, result.err
    assert [line.split()[0] for line in result.out.splitlines()[3:4]] == ["box"]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["mask"] is None
    assert list(scores["box"]["per_class"]) == ["circle", "square", "triangle"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found[0]) == {"image_id", "category_id", "bbox", "score"}
    assert len(found) == 5 * 20 * 3  # all queries with all classes: fewer than the 300 best of an image


def test_predictions_of_boxes_alone(piip: Any, dino: Path, coco: Path, tmp_path: Path) -> None:
    images = find_images([coco / "val2017"])
    out = tmp_path / "out"
    result = piip("predict", dino, *images, "--out", out, "--json", out / "all.json", "--threshold", 0.1)
    assert result.status == 0, result.err
    model = DINO.from_pretrained(dino)
    written = json.loads((out / "all.json").read_text())
    for path, detections in predict(model, model.config.preprocess, images, threshold=0.1):
        assert [entry["label"] for entry in written[str(path)]] == detections.labels.tolist()
        assert all(set(entry) == {"label", "name", "score", "box"} for entry in written[str(path)])
    assert len(list(out.glob("*.png"))) == len(images)


def test_parts(piip: Any, dino: Path) -> None:
    result = piip("info", dino)
    assert result.status == 0
    assert max(map(len, result.out.splitlines())) <= 100
    parts = ("strides 8, 16; 32, 32 channels", "3 maps, 64 channels", "20 queries", "2 layers, 64 wide; 3 classes")
    assert all(part in result.out for part in parts)
    parameters = sum(parameter.numel() for parameter in DINO.from_pretrained(dino).parameters())
    assert f"{parameters / 1e6:.2f}M" in result.out


def test_training_for_other_classes(
    piip: Any, dino: Path, coco: Path, tmp_path: Path, fresh_accelerate: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    monkeypatch.setattr("piip.tasks.detection.coco.read_json", lambda file: parsed.append(file) or read_json(file))
    settings = ("--training.epochs", 1, "--training.batch-size", 1, "--training.num-workers", 0, "--device", "cpu")
    result = piip("train", dino, "--data", coco, "--out", tmp_path / "run", *settings, "--json", "-")
    assert result.status == 0, result.err
    assert parsed == [coco_paths(coco, split)[0] for split in ("train", "val")]  # once each: that of COCO has 450 MB
    assert set(json.loads(result.out)["scores"]) == {"box_ap", "box_ap50"}
    assert DINO.from_pretrained(tmp_path / "run" / "final").config.class_names == SHAPE_NAMES[:3]
