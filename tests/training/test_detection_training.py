"""Training detectors: that they learn, on one process or two, from any dataset in the format of COCO."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from piip.branches import ViTConfig
from piip.files import atomic_path
from piip.images import ImageWarning
from piip.pyramid import BackboneConfig, InteractionConfig, PyramidConfig, simple_pyramid
from piip.shapes import ShapesConfig, write_coco
from piip.tasks.detection.augmentation import DetectionPreprocessConfig, SingleScaleConfig
from piip.tasks.detection.dino import DINOConfig, TransformerConfig
from piip.tasks.detection.mask_rcnn.anchors import AnchorConfig
from piip.tasks.detection.mask_rcnn.box_head import BoxHeadConfig
from piip.tasks.detection.mask_rcnn.fpn import FPNConfig
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.tasks.detection.mask_rcnn.rpn import RPNConfig
from piip.tasks.detection.mask_rcnn.sampling import SamplerConfig
from piip.training.detection import DetectionRecipe, DetectionTask, read_data
from piip.training.loop import train
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.reporter import read_log
from piip.training.schedule import CosineSchedule

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
CLASSES = ("circle", "square", "triangle")


def tiny_detector(num_classes: int = 3) -> MaskRCNNConfig:
    def branch(image_size: int, embed_dim: int) -> ViTConfig:
        return ViTConfig(
            image_size=image_size,
            depth=2,
            embed_dim=embed_dim,
            num_heads=2,
            stages=(1, 1),
            patch_size=8,
            class_token=False,
        )

    pyramid = PyramidConfig(branches=(branch(48, 64), branch(96, 64)), interaction=InteractionConfig(num_heads=4))
    return MaskRCNNConfig(
        backbone=BackboneConfig(pyramid=pyramid, levels=simple_pyramid(2, 1, 0.5)),
        num_classes=num_classes,
        fpn=FPNConfig(channels=64, num_levels=3),
        rpn=RPNConfig(anchors=AnchorConfig(scales=(6.0,))),
        box_head=BoxHeadConfig(hidden_dim=128, sampler=SamplerConfig(count=64, positive_fraction=0.25)),
        mask_head=MaskHeadConfig(channels=64, num_convs=1),
        preprocess=DetectionPreprocessConfig(scale=(96, 96)),
    )


def small_dino() -> DINOConfig:
    pyramid = tiny_detector().backbone.pyramid
    return DINOConfig(
        backbone=BackboneConfig(pyramid=pyramid, levels=simple_pyramid(1, 0.5)),
        num_classes=3,
        num_queries=20,
        transformer=TransformerConfig(
            embed_dim=64, num_levels=2, num_heads=4, mlp_dim=128, encoder_layers=1, decoder_layers=2
        ),
        preprocess=DetectionPreprocessConfig(scale=(96, 96)),
    )


def recipe(**changes) -> DetectionRecipe:
    training = TrainingConfig(
        epochs=1,
        batch_size=4,
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.0),
        schedule=CosineSchedule(),
        clip_grad_norm=5.0,
        num_workers=0,
        evaluate_every=1000,
    )
    return DetectionRecipe(training=replace(training, **changes), augmentation=SingleScaleConfig(hflip=0.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = ShapesConfig(num_classes=3, image_size=96, max_objects=3, min_size=0.2, max_size=0.5)
    return write_coco(tmp_path_factory.mktemp("data") / "shapes", scenes, num_train=4, num_val=4)


def on_training_images(data: Path, folder: Path) -> Path:
    """The same dataset, with the training images as the held-out ones too."""
    files = {
        "annotations": str(data / "annotations" / "instances_train2017.json"),
        "images": str(data / "train2017"),
    }
    with atomic_path(folder / "data.json") as path:
        path.write_text(json.dumps({"train": files, "val": files}))
    return folder / "data.json"


@pytest.mark.slow
def test_four_images_are_learned_by_heart(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = DetectionTask(
        tiny_detector().build(),
        recipe(epochs=240, checkpoint_every=1000),
        read_data(on_training_images(data, tmp_path)),
    )
    result = train(task, tmp_path / "run", cpu=True)
    assert result.scores["box_ap"] > 90
    assert result.scores["mask_ap"] > 90


@pytest.mark.slow
def test_four_images_are_learned_by_heart_without_their_masks(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = recipe(epochs=150, checkpoint_every=1000, clip_grad_norm=0.1)
    task = DetectionTask(small_dino().build(), settings, read_data(on_training_images(data, tmp_path)))
    assert task.score == "box_ap"
    assert all(task.train_data[index].target.masks is None for index in range(4))
    result = train(task, tmp_path / "run", cpu=True)
    assert set(result.scores) == {"box_ap", "box_ap50"}
    assert result.scores["box_ap"] > 90


def test_dino_needs_no_masks_in_the_data(data: Path, tmp_path: Path) -> None:
    """An image without objects too, and one with more than there are queries."""
    file = data / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    first, second = (image["id"] for image in content["images"][:2])
    boxes = [
        {key: value for key, value in entry.items() if key != "segmentation"}
        for entry in content["annotations"]
        if entry["image_id"] != first
    ]
    many = [
        boxes[0] | {"id": 1000 + number, "image_id": second, "bbox": [number, number, 20, 30]} for number in range(25)
    ]
    content["annotations"] = boxes + many
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    files = {"annotations": str(tmp_path / "annotations.json"), "images": str(data / "train2017")}
    (tmp_path / "data.json").write_text(json.dumps({"train": files, "val": files}))
    task = DetectionTask(small_dino().build(), replace(recipe(), keep_empty=True), read_data(tmp_path / "data.json"))
    assert len(task.train_data) == 4
    result = train(task, tmp_path / "run", cpu=True)
    assert result.steps == 1
    assert set(result.scores) == {"box_ap", "box_ap50"}
    with pytest.raises(ValueError, match="no annotation has a mask"):
        DetectionTask(tiny_detector().build(), recipe(), read_data(tmp_path / "data.json"))


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    def losses(folder: Path) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        kept = ("loss", "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask", "grad_norm", "step")
        return [{name: line[name] for name in kept} for line in lines if line["kind"] == "train"]

    def run(folder: Path, epochs: int, *, resume: bool = False) -> None:
        torch.manual_seed(0)
        settings = recipe(epochs=4, batch_size=2, log_every=1)
        task = DetectionTask(tiny_detector().build(), settings, read_data(data))
        if epochs == 4:
            train(task, folder, resume=resume, cpu=True)
            return
        done = 0

        def losses_until(*arguments):
            nonlocal done
            done += 1
            if done > 1 + 2 * epochs:  # one forward pass looks for parameters that no loss reaches
                raise RuntimeError("killed")
            return DetectionTask.losses(task, *arguments)

        task.losses = losses_until
        with pytest.raises(RuntimeError, match="killed"):
            train(task, folder, cpu=True)

    run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    run(tmp_path / "parts", 4, resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def cut_training_images(data: Path) -> None:
    """Make training images of four heights; their objects become rectangles that end there."""
    file = data / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    heights = {}
    for number, entry in enumerate(content["images"]):
        entry["height"] = heights[entry["id"]] = (96, 60, 55, 50)[number % 4]
        path = data / "train2017" / entry["file_name"]
        Image.open(path).crop((0, 0, 96, entry["height"])).save(path)
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        bottom = heights[entry["image_id"]]
        y = min(y, bottom - 10)
        height = min(height, bottom - y)
        polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
        entry |= {"bbox": [x, y, width, height], "area": width * height, "segmentation": [polygon]}
    file.write_text(json.dumps(content))


def logs_of_one_and_two_processes(
    kind: str, tmp_path: Path, *, divisor: int = 32, mixed: bool = False
) -> list[list[dict[str, float]]]:
    """What is logged of two epochs of two steps: losses, and last the scores."""
    tests = Path(__file__).parents[1]
    scenes = ShapesConfig(num_classes=3, image_size=96, max_objects=4, min_size=0.2, max_size=0.5)
    data = write_coco(tmp_path / "shapes", scenes, num_train=8, num_val=3)
    if mixed:
        cut_training_images(data)
    logs = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
        command = [sys.executable, *launcher, str(tests / "train_detector.py"), kind, str(data), str(out)]
        command.append(str(divisor))
        path = os.pathsep.join([str(tests), *sys.path[1:]])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run(command, env=environment, check=True, timeout=240, capture_output=True)
        logs.append(read_log(out / "log.jsonl"))
    assert [line["kind"] for line in logs[0]] == ["train"] * 4 + ["eval"]
    return [
        [{k: v for k, v in line.items() if k not in ("kind", "samples_per_second")} for line in log] for log in logs
    ]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    """Though the processes have different numbers of objects, by which the losses are divided."""
    for single, double in zip(*logs_of_one_and_two_processes("mask_rcnn", tmp_path), strict=True):
        assert single == pytest.approx(double, rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_for_images_of_any_sizes_that_are_padded_to_one(tmp_path: Path) -> None:
    """A process pads to the size of its own largest image, and padding has a part in all features."""
    for single, double in zip(
        *logs_of_one_and_two_processes("mask_rcnn", tmp_path / "one", divisor=96, mixed=True), strict=True
    ):
        assert single == pytest.approx(double, rel=1e-4, abs=1e-6)
    logs = logs_of_one_and_two_processes("mask_rcnn", tmp_path / "own", divisor=32, mixed=True)
    losses, others = ([line["loss"] for line in log if "loss" in line] for log in logs)
    changes = [abs(other / loss - 1) for loss, other in zip(losses, others, strict=True)]
    assert 1e-4 < max(changes) < 0.05


@pytest.mark.slow
def test_two_processes_have_the_first_losses_of_one_dino(tmp_path: Path) -> None:
    """But for those of the denoising queries: a process has as many groups of them as fit its own objects."""
    single, double = (log[0] for log in logs_of_one_and_two_processes("dino", tmp_path))
    matched = {name for name in single if "loss_" in name and "dn_" not in name}
    assert len(matched) == 9
    for name in matched:
        assert single[name] == pytest.approx(double[name], rel=1e-4), name


def test_images_without_objects_and_boxes_of_a_pixel_train(data: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    first, second = (image["id"] for image in content["images"][:2])
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != first]
    pixel = next(entry for entry in content["annotations"] if entry["image_id"] == second)
    pixel |= {"bbox": [5, 5, 1, 1], "area": 1, "segmentation": [[5, 5, 6, 5, 6, 6, 5, 6]]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    files = {"annotations": str(tmp_path / "annotations.json"), "images": str(data / "train2017")}
    (tmp_path / "data.json").write_text(json.dumps({"train": files, "val": files}))
    settings = replace(recipe(), keep_empty=True)
    task = DetectionTask(tiny_detector().build(), recipe(), read_data(tmp_path / "data.json"))
    left_out = "1 of 4 images are not trained on: 1 without annotations (--keep-empty trains on them too)"
    assert left_out in task.data_summary
    task = DetectionTask(tiny_detector().build(), settings, read_data(tmp_path / "data.json"))
    assert not any("--keep-empty" in line for line in task.data_summary)
    assert len(task.train_data) == 4
    assert train(task, tmp_path / "run", cpu=True).steps == 1


@pytest.mark.filterwarnings("ignore:cannot read image")
def test_damaged_images_do_not_end_a_training(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    task = DetectionTask(tiny_detector().build(), recipe(batch_size=2), read_data(tmp_path / "data"))
    for split in ("train", "val"):
        file = min((tmp_path / "data" / f"{split}2017").iterdir())
        file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(ImageWarning, match="scored on 3 of 4 held-out images: the others cannot be read"):
        assert train(task, tmp_path / "run", cpu=True).steps == 2


def test_a_model_of_other_classes_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match=r"has 3 classes, and the model has 4"):
        DetectionTask(tiny_detector(4).build(), recipe(), read_data(data))
    with pytest.raises(ValueError, match="categories are none of the"):
        read_data(data, class_names=("a", "b", "c"))


def test_labels_are_those_of_the_model(data: Path) -> None:
    names = CLASSES[::-1]
    model = replace(tiny_detector(), class_names=names).build()
    task = DetectionTask(model, recipe(), read_data(data, names))
    assert task.train_data.annotations.class_names == task.val_data.annotations.class_names == names
    with pytest.raises(ValueError, match=r"'circle', 'square', 'triangle', and .*'triangle', .*; read it with these"):
        DetectionTask(model, recipe(), read_data(data))
