"""`piip train`, `piip eval`, `piip predict` and `piip info` of a segmentor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mask_data import save
from piip.config import load_config, read_json
from piip.images import find_images
from piip.shapes import ShapesConfig, write_ade20k
from piip.tasks.segmentation.data import EvaluationSet
from piip.tasks.segmentation.evaluation import evaluate
from piip.tasks.segmentation.files import open_split
from piip.tasks.segmentation.prediction import predict
from piip.tasks.segmentation.upernet.model import UperNet, UperNetConfig
from small_segmentor import small_segmentor
from two_processes import eval_on_two

NAMES = ["background", "circle", "square", "triangle"]


def test_scores(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path) -> None:
    arguments = ("eval", segmentor, "--data", ade20k, "--num-workers", 0, "--json", tmp_path / "scores.json")
    result = piip(*arguments, "--per-class")
    assert result.status == 0
    assert "5 images with masks of 4 classes" in " ".join(result.err.split())
    assert max(map(len, result.out.splitlines())) <= 100
    assert all(word in result.out for word in ("mIoU", "mean accuracy", "accuracy of all pixels", *NAMES))

    model = UperNet.from_pretrained(segmentor)
    dataset = EvaluationSet(open_split(ade20k, "val"), model.config.preprocess.build())
    expected = evaluate(model, dataset)
    scores = json.loads((tmp_path / "scores.json").read_text())
    for name in ("miou", "mean_accuracy", "accuracy", "num_images"):
        assert scores[name] == pytest.approx(getattr(expected, name))
    for name in ("per_class_iou", "per_class_accuracy"):
        assert list(scores[name]) == NAMES
        assert tuple(scores[name].values()) == pytest.approx(getattr(expected, name))


def test_a_file_that_names_the_dataset(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for path in list((ade20k / "annotations" / "validation").iterdir())[:3]:
        (tmp_path / "masks" / path.name).write_bytes(path.read_bytes())
    mine = {"images": str(ade20k / "images" / "validation"), "masks": "masks"}
    content = {"class_names": NAMES, "values": [1, 2, 3, 4], "splits": {"mine": mine}}
    (tmp_path / "data.json").write_text(json.dumps(content))
    arguments = ("eval", segmentor, "--data", tmp_path / "data.json", "--num-workers", 0)
    result = piip(*arguments, "--split", "mine", "--limit", 2, "--json", "-")
    assert result.status == 0
    assert json.loads(result.out)["num_images"] == 2
    assert "2 images without a mask" in result.err
    result = piip(*arguments, "--split", "mien")
    assert result.status == 2
    assert "data.json: splits: has no 'mien'" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data {tmp}", "has no images/validation; name a folder in the layout of ADE20K"),
        ("--data {tmp}/nothing.json", "nothing.json: there is no such file"),
        ("--data {data} --split test", "dataset.json: splits: has no 'test'"),
        ("--data {data} --limit 0", "limit=0 must be at least 1"),
        ("--data {data} --batch-size 2", "--batch-size: {model} is a segmentor, which has no use for it"),
        ("--data {data} --results {tmp}/x.json", "--results: {model} is a segmentor, which has no use for it"),
        ("--data {bad}", "labels/4.png' has pixels of '77'"),
    ],
)
def test_eval_errors(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path, arguments: str, message: str) -> None:
    bad = tmp_path / "bad" / "dataset.json"
    save(tmp_path / "bad" / "photos" / "4.png", np.zeros((4, 4, 3), dtype=np.uint8))
    save(tmp_path / "bad" / "labels" / "4.png", np.full((4, 4), 77, dtype=np.uint8))
    splits = {"val": {"images": "photos", "masks": "labels"}}
    bad.write_text(json.dumps({"class_names": NAMES, "splits": splits}))
    named = {"data": ade20k, "tmp": tmp_path, "model": segmentor, "bad": bad}
    result = piip("eval", segmentor, *arguments.format(**named).split(), "--num-workers", 0)
    assert (result.status, result.out) == (2, "")
    assert message.format(**named) in result.err


def test_classes_that_are_not_the_models(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path) -> None:
    content = json.loads((ade20k / "dataset.json").read_text())
    content["class_names"][3] = "heart"
    for split in content["splits"].values():
        split.update({name: str(ade20k / folder) for name, folder in split.items()})
    (tmp_path / "other.json").write_text(json.dumps(content))
    result = piip("eval", segmentor, "--data", tmp_path / "other.json")
    assert result.status == 2
    assert "1 of 4 classes are none of the 4 classes of the model or of the training images: 'heart'" in result.err
    config = json.loads((segmentor / "config.json").read_text()) | {"class_names": [], "num_classes": 4}
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    (nameless / "config.json").write_text(json.dumps(config))
    (nameless / "model.safetensors").write_bytes((segmentor / "model.safetensors").read_bytes())
    assert piip("eval", nameless, "--data", ade20k, "--num-workers", 0, "--limit", 1).status == 0
    content["class_names"], content["values"] = ["one"], [1]
    content["palette"], content["ignored"] = [], [0, 2, 3, 4]
    (tmp_path / "other.json").write_text(json.dumps(content))
    result = piip("eval", nameless, "--data", tmp_path / "other.json")
    assert result.status == 2
    assert "other.json: 1 classes, but the model has 4, and no names" in result.err


@pytest.mark.slow
def test_two_processes(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path) -> None:
    arguments = [str(segmentor), "--data", str(ade20k)]
    alone = piip("eval", *arguments, "--num-workers", 0, "--json", "-")
    first, second = eval_on_two([[*arguments, "--json", "-"], arguments], tmp_path)
    assert [first[0][0], first[1][0], second[0][0], second[1][0]] == [0, 0, 0, 0]
    assert json.loads(first[0][1]) == json.loads(alone.out)
    assert "mIoU" in first[1][1]
    assert [second[0][1:], second[1][1:]] == [["", ""], ["", ""]]


def test_pictures_label_maps_and_json(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path) -> None:
    images = find_images([ade20k / "images" / "validation"])
    out = tmp_path / "out"
    result = piip("predict", segmentor, *images, "--out", out, "--json", out / "all.json")
    assert result.status == 0
    assert max(map(len, result.out.splitlines())) <= 100
    model = UperNet.from_pretrained(segmentor)
    written = json.loads((out / "all.json").read_text())
    assert list(written) == [str(path) for path in images]
    pictures, maps = (sorted(folder.glob("*.png")) for folder in (out, out / "labels"))
    assert [path.name for path in pictures] == [path.name for path in maps]
    assert len(maps) == 5
    for (path, expected), picture, labels in zip(
        predict(model, model.config.preprocess, images), pictures, maps, strict=True
    ):
        own = Image.open(labels)
        assert own.mode == "P"
        assert (np.asarray(own) == expected).all()
        assert own.getpalette()[:12] == [10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200]
        entry = written[str(path)]
        assert (entry["height"], entry["width"]) == (64, 64)
        assert sum(found["pixels"] for found in entry["classes"]) == 64 * 64
        assert sum(found["area"] for found in entry["classes"]) == pytest.approx(1)
        for found in entry["classes"]:
            assert found["name"] == NAMES[found["label"]]
            assert found["pixels"] == (expected == found["label"]).sum()
        areas = [found["area"] for found in entry["classes"]]
        assert areas == sorted(areas, reverse=True)
        assert Image.open(picture).height > 320  # the image, enlarged, and its legend


def test_chosen_classes(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path) -> None:
    image = find_images([ade20k / "images" / "validation"])[0]
    arguments = ("predict", segmentor, image, "--json", "-")
    (everything,) = json.loads(piip(*arguments).out).values()
    name = everything["classes"][0]["name"]
    (chosen,) = json.loads(piip(*arguments, "--classes", name, "--out", tmp_path).out).values()
    assert chosen["classes"] == everything["classes"][:1]
    (labels,) = (tmp_path / "labels").iterdir()
    assert set(np.unique(np.asarray(Image.open(labels)))) <= {NAMES.index(name), 255}
    missing = next(other for other in NAMES if other not in [found["name"] for found in everything["classes"]])
    assert "nothing found" in piip("predict", segmentor, image, "--classes", missing).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--top 3", "--top: {model} is a segmentor, which has no use for it; leave it out"),
        ("--threshold 0.5", "--threshold: {model} is a segmentor"),
        ("--classes circel", "--classes: the model has no class 'circel'; did you mean 'circle'?"),
        ("--batch-size 2", "--batch-size: {model} is a segmentor, which has no use for it; leave it out"),
    ],
)
def test_predict_errors(piip: Any, segmentor: Path, ade20k: Path, arguments: str, message: str) -> None:
    result = piip("predict", segmentor, ade20k / "images" / "validation", *arguments.split())
    assert (result.status, result.out) == (2, "")
    assert message.format(model=segmentor) in result.err


def test_models_without_names_and_colours(piip: Any, segmentor: Path, ade20k: Path, tmp_path: Path) -> None:
    config = json.loads((segmentor / "config.json").read_text()) | {"class_names": [], "palette": []}
    nameless = tmp_path / "nameless"
    nameless.mkdir()
    (nameless / "config.json").write_text(json.dumps(config))
    (nameless / "model.safetensors").write_bytes((segmentor / "model.safetensors").read_bytes())
    image = find_images([ade20k / "images" / "validation"])[0]
    result = piip("predict", nameless, image, "--out", tmp_path / "out")
    assert result.status == 0
    assert "class " in result.out
    (labels,) = (tmp_path / "out" / "labels").iterdir()
    palette = Image.open(labels).getpalette()
    assert len({tuple(palette[3 * label : 3 * label + 3]) for label in range(4)}) == 4


def test_parts(piip: Any, segmentor: Path) -> None:
    result = piip("info", segmentor)
    assert result.status == 0
    assert max(map(len, result.out.splitlines())) <= 100
    parts = (
        "after each of 2 stages",
        "decode head",
        "4 classes; 32 channels",
        "1, 2, 3, 6 cells",
        "auxiliary head",
        "shorter side of 96",
    )
    text = " ".join(result.out.replace("│", " ").split())
    assert all(part in text for part in parts), text
    parameters = sum(parameter.numel() for parameter in UperNet.from_pretrained(segmentor).parameters())
    assert f"{parameters / 1e6:.2f}M" in result.out


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_trained_model_goes_on_with_other_classes_and_colours(piip: Any, segmentor: Path, tmp_path: Path) -> None:
    scenes = ShapesConfig(num_classes=2, image_size=48)
    data = write_ade20k(tmp_path / "shapes", scenes, num_train=4, num_val=2)
    quick = ("--training.epochs", 1, "--training.batch-size", 2, "--training.num-workers", 0, "--device", "cpu")
    result = piip("train", segmentor, "--data", data, "--out", tmp_path / "run", *quick)
    assert result.status == 0, result.err
    told = " ".join(result.err.split())
    assert "new for the 3 classes of the data: decode_head.classifier.weight" in told
    assert "but for what belongs to 'background', 'circle', 'square'" in told
    assert "4 images with masks of 3 classes" in told
    config = load_config(UperNetConfig, tmp_path / "run" / "best" / "config.json")
    content = read_json(data / "dataset.json")
    assert list(config.class_names) == content["class_names"]
    assert [list(colour) for colour in config.palette] == content["palette"]
    assert "miou" in result.out


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_accelerate")
def test_from_shapes_to_pictures(piip: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, model, run = tmp_path / "shapes", tmp_path / "model", tmp_path / "run"
    small_segmentor().build().save_pretrained(model)
    shapes = ("--layout", "ade20k", "--num-train", 64, "--num-val", 16, "--num-classes", 3, "--image-size", 96)
    assert piip("shapes", data, *shapes, "--min-size", 0.3).status == 0
    settings = ("--training.epochs", "None", "--training.steps", 300, "--training.evaluate-every", 150)
    settings += ("--training.num-workers", 0, "--device", "cpu", "--json", tmp_path / "result.json")
    result = piip("train", model, "--recipe", "scratch", "--data", data, "--out", run, *settings)
    assert result.status == 0, result.err
    trained = read_json(tmp_path / "result.json")
    assert trained["steps"] == 300
    scores = piip("eval", run / "best", "--data", data, "--num-workers", 0, "--json", "-")
    found = json.loads(scores.out)
    assert found["miou"] == pytest.approx(trained["best_score"])
    assert found["miou"] > 45  # half of that is what one gets for calling everything background
    out = tmp_path / "pictures"
    assert piip("predict", run / "best", data / "images" / "validation", "--out", out).status == 0
    assert len(list((out / "labels").glob("*.png"))) == len(list(out.glob("*.png"))) == 16
