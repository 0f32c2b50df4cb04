"""The page of a model on the hub."""

import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from hub_server import Hub
from piip import ClassificationConfig, MergedHeadConfig, SeparateHeadsConfig
from piip.readme import readme
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino
from tiny_models import randomised, tiny_pyramid
from tiny_segmenter import tiny_segmenter

CLASSIFIER = ClassificationConfig(
    pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=2), class_names=("cat", "dog")
)
WITHOUT_CLASSES = ClassificationConfig(pyramid=tiny_pyramid(), head=MergedHeadConfig(num_classes=0))


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (CLASSIFIER, "image-classification"),
        (tiny_detector(), "object-detection"),
        (tiny_dino(), "object-detection"),
        (tiny_segmenter(), "image-segmentation"),
        (WITHOUT_CLASSES, "image-feature-extraction"),
    ],
    ids=["classifier", "mask_rcnn", "dino", "upernet", "without classes"],
)
def test_its_code_runs(hub: Hub, config: Any, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(config.build())
    model.push_to_hub("owner/my-model")
    page = hub.files["owner/my-model"]["README.md"].decode()
    assert ModelCard(page).data.to_dict() == {
        "library_name": "piip",
        "pipeline_tag": task,
        "tags": ["image-pyramid"],
    }
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48)).save("photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["model"].config == config


def test_what_it_says() -> None:
    page = readme(CLASSIFIER.build(), "owner/my-model")
    assert "\n# my-model\n" in page
    assert "\nA ClassificationModel for 2 classes ('cat', 'dog').\n" in page
    assert [line.split(" | ")[:4] for line in page.splitlines() if re.match(r"\| \d", line)] == [
        [f"| {number}", "ViT", str(branch.image_size), str(branch.embed_dim)]
        for number, branch in enumerate(CLASSIFIER.pyramid.branches, 1)
    ]


def test_of_a_model_without_classes() -> None:
    page = readme(WITHOUT_CLASSES.build(), "a/b")
    assert "pipeline_tag: image-feature-extraction\n" in page
    assert "\nA ClassificationModel without classes.\n" in page
    assert "predict" not in page
