"""A saved model and a dataset for it, and the command line in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from piip import ClassificationConfig, PreprocessConfig, SeparateHeadsConfig
from piip.cli import console
from piip.cli.main import run
from piip.shapes import SHAPE_NAMES, ShapesConfig, write_ade20k, write_coco, write_image_folder
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.segmentation.augmentation import SegmentationPreprocessConfig
from tiny_detector import tiny_detector
from tiny_models import randomised, tiny_pyramid
from tiny_segmenter import tiny_segmenter


@dataclass(frozen=True)
class Result:
    """What a command gave."""

    status: int
    out: str
    err: str


Piip = Callable[..., Result]


@pytest.fixture
def piip(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Piip:
    """Runs `piip` with these arguments, in a terminal `width` columns wide that people do not sit at."""
    monkeypatch.delenv("PIIP_TRACEBACK", raising=False)

    def call(*arguments: object, width: int = 100) -> Result:
        monkeypatch.setattr(console.output, "width", width)
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved model of three classes."""
    torch.manual_seed(0)
    config = ClassificationConfig(
        pyramid=tiny_pyramid(),
        head=SeparateHeadsConfig(num_classes=3),
        preprocess=PreprocessConfig(input_size=48),
        class_names=SHAPE_NAMES[:3],
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    randomised(config.build()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of these classes with 7 held-out images."""
    config = ShapesConfig(num_classes=3, image_size=48)
    return write_image_folder(tmp_path_factory.mktemp("data") / "shapes", config, num_train=3, num_val=7)


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved detector of three classes."""
    torch.manual_seed(0)
    preprocess = DetectionPreprocessConfig(scale=(96, 96))
    config = tiny_detector(class_names=SHAPE_NAMES[:3], preprocess=preprocess)
    folder = tmp_path_factory.mktemp("models") / "detector"
    config.build().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of these classes with 5 held-out images."""
    config = ShapesConfig(num_classes=3, image_size=64, max_objects=3)
    return write_coco(tmp_path_factory.mktemp("data") / "coco", config, num_train=1, num_val=5)


@pytest.fixture(scope="session")
def segmentor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved segmentor of four classes."""
    torch.manual_seed(0)
    config = tiny_segmenter(
        num_classes=4,
        class_names=("background", *SHAPE_NAMES[:3]),
        preprocess=SegmentationPreprocessConfig(short_side=96),
        palette=((10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200)),
    )
    folder = tmp_path_factory.mktemp("models") / "segmentor"
    randomised(config.build()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def ade20k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of these classes with 5 held-out images."""
    config = ShapesConfig(num_classes=3, image_size=64, max_objects=3)
    return write_ade20k(tmp_path_factory.mktemp("data") / "ade20k", config, num_train=4, num_val=5)
