"""Training segmentors: that they learn, on one process or two, from any dataset of images and masks."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mask_data import PALETTE, write_masks
from piip.images import ImageWarning
from piip.shapes import ShapesConfig, write_ade20k
from piip.tasks.segmentation.augmentation import SegmentationAugmentationConfig, SegmentationPreprocessConfig
from piip.training.loop import train
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.reporter import read_log
from piip.training.schedule import CosineSchedule
from piip.training.segmentation import SegmentationRecipe, SegmentationTask
from small_segmentor import small_segmentor
from tiny_segmenter import tiny_segmenter

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
UNCHANGED = SegmentationAugmentationConfig(factors=(1.0, 1.0), class_limit=1.0, hflip=0.0, colours=None)


def recipe(**changes) -> SegmentationRecipe:
    training = TrainingConfig(
        epochs=1,
        batch_size=4,
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.0),
        schedule=CosineSchedule(),
        clip_grad_norm=5.0,
        num_workers=0,
        evaluate_every=1000,
    )
    return SegmentationRecipe(training=replace(training, **changes), augmentation=UNCHANGED)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = ShapesConfig(num_classes=3, image_size=96, max_objects=3, min_size=0.3, max_size=0.6)
    return write_ade20k(tmp_path_factory.mktemp("data") / "shapes", scenes, num_train=4, num_val=4)


def on_training_images(data: Path, folder: Path) -> Path:
    """The same dataset, with the training images as the held-out ones too."""
    content = json.loads((data / "dataset.json").read_text())
    folders = {name: str(data / path) for name, path in content["splits"]["train"].items()}
    (folder / "data.json").write_text(json.dumps(content | {"splits": {"train": folders, "val": folders}}))
    return folder / "data.json"


@pytest.mark.slow
def test_four_images_are_learned_by_heart(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = recipe(epochs=None, steps=120)
    task = SegmentationTask(small_segmentor().build(), settings, on_training_images(data, tmp_path))
    result = train(task, tmp_path / "run", cpu=True)
    assert result.steps == 120
    assert result.scores["miou"] > 90
    assert result.scores["accuracy"] > result.scores["mean_accuracy"] > 90


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    def losses(folder: Path) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        kept = ("loss", "loss_decode", "loss_auxiliary", "grad_norm", "step")
        return [{name: line[name] for name in kept} for line in lines if line["kind"] == "train"]

    def run(folder: Path, *, killed: bool = False, resume: bool = False) -> None:
        torch.manual_seed(0)
        settings = replace(
            recipe(epochs=None, steps=5, evaluate_every=3, batch_size=2, log_every=1),
            augmentation=SegmentationAugmentationConfig(),
        )
        task = SegmentationTask(small_segmentor().build(), settings, data)
        if not killed:
            train(task, folder, resume=resume, cpu=True)
            return
        done = 0

        def losses_until(*arguments):
            nonlocal done
            done += 1
            if done > 1 + 3:  # one forward pass looks for parameters that no loss reaches
                raise RuntimeError("killed")
            return SegmentationTask.losses(task, *arguments)

        task.losses = losses_until
        with pytest.raises(RuntimeError, match="killed"):
            train(task, folder, cpu=True)

    run(tmp_path / "whole")
    run(tmp_path / "parts", killed=True)
    run(tmp_path / "parts", resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    """Though each normalises batches by the means of both, and the processes have other images."""
    tests = Path(__file__).parents[1]
    scenes = ShapesConfig(num_classes=2, image_size=96, max_objects=4, min_size=0.2, max_size=0.5)
    data = write_ade20k(tmp_path / "shapes", scenes, num_train=8, num_val=3)
    logs = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
        command = [sys.executable, *launcher, str(tests / "train_segmentor.py"), str(data), str(out)]
        path = os.pathsep.join([str(tests), *sys.path[1:]])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run(command, env=environment, check=True, timeout=240, capture_output=True)
        logs.append(read_log(out / "log.jsonl"))
    one, two = (
        [{k: v for k, v in line.items() if k not in ("kind", "samples_per_second")} for line in log] for log in logs
    )
    assert [line["kind"] for line in logs[0]] == ["train"] * 2 + ["eval"] + ["train"] * 2 + ["eval"]
    for single, double in zip(one, two, strict=True):
        assert single == pytest.approx(double, rel=1e-4, abs=1e-6)


def test_the_model_takes_over_the_colours_of_the_data(tmp_path: Path) -> None:
    file = write_masks(tmp_path)
    preprocess = SegmentationPreprocessConfig(short_side=24)
    classes = ("road", "sky", "tree")
    for class_names, expected in ((classes, PALETTE), ((), PALETTE), (("tree", "sky", "road"), ())):
        model = tiny_segmenter(class_names=class_names, preprocess=preprocess).build()
        task = SegmentationTask(model, recipe(), file)
        assert task.model.config.palette == expected
        assert task.model.config.class_names == class_names


def test_data_that_do_not_fit_are_refused(data: Path, tmp_path: Path) -> None:
    config = small_segmentor()
    with pytest.raises(ValueError, match=r"has 4 classes, and the model has 5"):
        SegmentationTask(replace(config, num_classes=5).build(), recipe(), data)
    with pytest.raises(ValueError, match="classes are none of the 4 classes"):
        SegmentationTask(replace(config, class_names=("a", "b", "c", "d")).build(), recipe(), data)


def test_damaged_images_are_named_and_do_not_end_a_training(tmp_path: Path) -> None:
    file = write_masks(tmp_path)
    paths = {split: tmp_path / split / "labels" / name for split, name in (("train", "1.png"), ("val", "5.png"))}
    for path in paths.values():
        path.write_bytes(path.read_bytes()[:60])
    model = tiny_segmenter(preprocess=SegmentationPreprocessConfig(short_side=96)).build()
    left_out = f"cannot read image '{paths['val']}': image file is truncated; it is left out of the evaluation"
    with pytest.warns(ImageWarning) as told:
        task = SegmentationTask(model, recipe(), file)
    assert [str(warning.message) for warning in told] == [left_out]
    with pytest.warns(ImageWarning) as told:
        assert train(task, tmp_path / "run", cpu=True).steps == 1
    messages = [str(warning.message) for warning in told]
    assert any(
        message.endswith("1.png': image file is truncated; another image is taken in its place") for message in messages
    )
    assert messages[-2:] == [left_out, "scored on 2 of 3 held-out images: the others cannot be read"]
