"""Classifying images from files."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from piip import ClassificationConfig, ClassificationModel, MergedHeadConfig, PreprocessConfig, SeparateHeadsConfig
from piip.images import ImageError, read_image
from piip.tasks.classification.names import imagenet_synsets, readable_name
from piip.tasks.classification.prediction import predict
from tiny_models import randomised, tiny_pyramid

CONFIG = ClassificationConfig(
    pyramid=tiny_pyramid(),
    head=SeparateHeadsConfig(num_classes=4),
    preprocess=PreprocessConfig(input_size=48),
    class_names=("cat", "dog", "n02123045", "owl"),
)


@pytest.fixture(scope="module")
def model() -> ClassificationModel:
    """A model in evaluation mode."""
    torch.manual_seed(0)
    return randomised(CONFIG.build()).eval()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five images of different sizes."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    files = [folder / f"{number}.png" for number in range(5)]
    for number, path in enumerate(files):
        Image.fromarray(random.integers(256, size=(40 + 9 * number, 70, 3), dtype=np.uint8)).save(path)
    return files


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_best_classes_of_each_image(model: ClassificationModel, paths: list[Path], batch_size: int) -> None:
    results = list(predict(model, paths, batch_size=batch_size))
    assert [path for path, _ in results] == paths
    transform = CONFIG.preprocess.build()
    for path, scores in results:
        with torch.no_grad():
            expected = model(transform(read_image(path))[None])["logits"][0].softmax(0)
        assert [score.label for score in scores] == expected.argsort(descending=True).tolist()
        assert [score.score for score in scores] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-6)
        assert [score.name for score in scores] == [
            ("cat", "dog", "tabby, tabby cat", "owl")[score.label] for score in scores
        ]


def test_how_many(model: ClassificationModel, paths: list[Path]) -> None:
    for top, expected in ((1, 1), (3, 3), (100, 4)):
        assert [len(scores) for _, scores in predict(model, paths[:2], top=top)] == [expected, expected]
    assert list(predict(model, [])) == []
    for options in ({"top": 0}, {"top": -1}, {"batch_size": 0}):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f"{name}: must be at least 1, got {value}"):
            predict(model, paths, **options)


@pytest.mark.parametrize("top", ["5", 5.0, None, True, [5]])
def test_numbers_of_classes_that_are_none(model: ClassificationModel, paths: list[Path], top: Any) -> None:
    with pytest.raises(ValueError, match="top: expected a whole number, got "):
        model.predict(paths[:1], top=top)


@pytest.mark.parametrize("images", [None, 5])
def test_what_are_no_images(model: ClassificationModel, images: Any) -> None:
    with pytest.raises(ValueError, match="images: expected a file, a picture, an array or a tensor, or several"):
        model.predict(images)


def test_each_batch_as_soon_as_it_is_done(model: ClassificationModel, paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    predictions = predict(model, [*paths[:2], tmp_path / "broken.png"], batch_size=2)
    assert [next(predictions)[0], next(predictions)[0]] == paths[:2]
    with pytest.raises(ImageError, match=r"broken\.png"):
        next(predictions)


def test_classes_without_names(paths: list[Path]) -> None:
    model = replace(CONFIG, class_names=()).build().eval()
    ((_, scores),) = predict(model, paths[:1])
    assert sorted(score.name for score in scores) == ["class 0", "class 1", "class 2", "class 3"]


def test_a_model_without_classes(paths: list[Path]) -> None:
    model = ClassificationConfig(pyramid=tiny_pyramid(), head=MergedHeadConfig(num_classes=0)).build().eval()
    with pytest.raises(ValueError, match=r"head\.num_classes: 0"):
        predict(model, paths)


def test_names() -> None:
    synsets = imagenet_synsets()
    assert len(synsets) == 1000
    assert (synsets[0], synsets[281], synsets[999]) == ("n01440764", "n02123045", "n15075141")
    assert list(synsets) == sorted(synsets)
    assert readable_name("n02123045") == "tabby, tabby cat"
    assert readable_name("heart") == "heart"
    assert readable_name("n02012849") == "crane (n02012849)"
    assert len(set(map(readable_name, imagenet_synsets()))) == 1000


def test_predicting_on_what_people_have(model: ClassificationModel, paths: list[Path]) -> None:
    (_, expected), *_ = predict(model, paths[:1], top=2)
    model.train()
    try:
        image = read_image(paths[0])
        found = model.predict([paths[0], str(paths[0]), image, np.asarray(image)], top=2)
        assert model.training
    finally:
        model.eval()
    assert found == [expected] * 4
    assert model.predict(image, top=2) == [expected]


def test_weights_of_any_type_predict(model: ClassificationModel, paths: list[Path]) -> None:
    (expected,) = model.predict(paths[0], top=1)
    for dtype in (torch.float64, torch.bfloat16):
        (found,) = deepcopy(model).to(dtype).predict(paths[0], top=1)
        assert found[0].score == pytest.approx(expected[0].score, abs=0.05)
