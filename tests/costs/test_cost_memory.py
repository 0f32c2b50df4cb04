"""Memory: estimates without numbers against runs, and those against what PyTorch allocates."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from piip import ClassificationConfig, SeparateHeadsConfig
from piip.costs import GIB, Memory, estimate_memory, largest_batch, least_batch, measure_memory
from piip.costs.memory import StorageTracker
from piip.pyramid import BackboneConfig
from piip.zoo.load import find_config
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino
from tiny_models import tiny_pyramid
from tiny_segmenter import tiny_segmenter

CLASSIFIER = ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=5))
MODELS = {
    "classifier": CLASSIFIER,
    "backbone": BackboneConfig(pyramid=tiny_pyramid()),
    "Mask R-CNN": tiny_detector(),
    "DINO": tiny_dino(),
    "UperNet": tiny_segmenter(),
}
CPU = torch.device("cpu")


@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_an_estimate_is_what_a_run_takes(kind: str, training: bool, autocast: torch.dtype | None) -> None:
    config = MODELS[kind]
    options: Any = {"batch_size": 2, "training": training, "autocast": autocast}
    estimated = estimate_memory(config, device="cpu", **options)
    measured = measure_memory(config, CPU, **options)
    # The means of a norm on the CPU are float32 beside float32 weights, which PyTorch takes for bfloat16 without them.
    tolerance = 0 if autocast is None else 0.003
    assert estimated.step == pytest.approx(measured.step, rel=tolerance)
    assert (estimated.weights, estimated.optimizer) == (measured.weights, measured.optimizer)
    model = config.build()
    learned = sum(4 * parameter.numel() for parameter in model.parameters())
    assert estimated.weights == learned + sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert estimated.optimizer == (2 * learned if training else 0)
    assert estimated.step > 0
    assert estimated.total == estimated.weights + estimated.optimizer + estimated.step


def allocated(run: Any, folder: Path) -> int:
    """The most bytes that PyTorch allocated on the CPU while this ran, beside what there was."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    live = peak = 0
    for event in sorted((one for one in events if one["name"] == "[memory]"), key=lambda one: one["ts"]):
        live += event["args"]["Bytes"]
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [2, 8])
def test_training_takes_what_pytorch_allocates(batch_size: int, autocast: torch.dtype | None, tmp_path: Path) -> None:
    config = find_config("piip_demo_shapes_96-48-32")
    model = config.build()

    def step() -> None:
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            logits = model(torch.zeros(batch_size, 3, 96, 96))["logits"]
        logits.float().sum().backward()
        model.zero_grad()

    step()  # what is allocated once
    estimated = estimate_memory(config, batch_size=batch_size, training=True, autocast=autocast, device="cpu").step
    assert estimated == pytest.approx(allocated(step, tmp_path), rel=0.05)


def test_a_mlp_by_hand() -> None:
    """Two layers without biases: what is saved for the backward pass, and gradients."""
    layers = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False))
    images = torch.zeros(3, 10)
    with StorageTracker((images, *layers.parameters())) as tracker, torch.no_grad():
        layers(images)
    assert (tracker.live, tracker.peak) == (0, 4 * 3 * (20 + 20))  # both sides of the activation
    with StorageTracker((images, *layers.parameters())) as tracker:
        output = layers(images)
        assert tracker.live == 4 * 3 * (20 + 5)
        output.sum().backward()
        del output
    assert tracker.live == 4 * (10 * 20 + 20 * 5)


def test_views_are_not_counted_again() -> None:
    with StorageTracker() as tracker:
        whole = torch.zeros(10)
        part = whole[3:].view(7, 1)
        assert tracker.live == 40
        del whole
        assert tracker.live == 40
        del part
        assert tracker.live == 0


def test_memory_grows_with_batch_and_training() -> None:
    run, train = (estimate_memory(CLASSIFIER, training=training) for training in (False, True))
    assert train.step > run.step
    assert estimate_memory(CLASSIFIER, batch_size=4).step > 3 * run.step
    assert estimate_memory(CLASSIFIER, image_size=96).step > 3 * run.step
    assert estimate_memory(CLASSIFIER.build(), training=True) == train
    with pytest.raises(ValueError, match="batch_size: must be at least 1, got 0"):
        estimate_memory(CLASSIFIER, batch_size=0)


def test_autocast_keeps_weights_and_casts_them_for_each_batch() -> None:
    """But for norms and embeddings; what is kept for the backward pass becomes smaller, but for sums and norms."""
    config = find_config("piip_demo_shapes_96-48-32")
    single, half = (estimate_memory(config, autocast=autocast) for autocast in (None, torch.bfloat16))
    assert (half.weights, half.optimizer) == (single.weights, single.optimizer)
    assert 0.4 * single.weights < half.step - single.step < 0.5 * single.weights
    single, half, other = (
        estimate_memory(config, batch_size=64, training=True, autocast=autocast)
        for autocast in (None, torch.bfloat16, torch.float16)
    )
    assert 0.5 * single.step < half.step < 0.8 * single.step
    assert other == half


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
def test_the_largest_batch(training: bool, autocast: torch.dtype | None) -> None:
    options: Any = {"training": training, "autocast": autocast}
    batch_size = largest_batch(CLASSIFIER, 60_000_000, **options)
    room = 0.9 * 60_000_000
    assert batch_size > 1
    assert estimate_memory(CLASSIFIER, batch_size=batch_size, **options).total <= room
    assert estimate_memory(CLASSIFIER, batch_size=batch_size + 1, **options).total > room
    one, two = (estimate_memory(CLASSIFIER, batch_size=number, **options).total for number in (1, 2))
    assert largest_batch(CLASSIFIER, round((two - 10) / 0.9), **options) == int(one < two - 10)
    assert largest_batch(CLASSIFIER, 1000, **options) == 0


def test_what_cannot_learn_from_one_image_is_not_estimated_for_one() -> None:
    segmentor = MODELS["UperNet"]
    assert [least_batch(segmentor, training=training) for training in (False, True)] == [1, 2]
    assert least_batch(CLASSIFIER.build(), training=True) == 1
    with pytest.raises(ValueError, match="train on at least two images at a time"):
        estimate_memory(segmentor, training=True)
    run, train = (estimate_memory(segmentor, batch_size=2, training=training).total for training in (False, True))
    assert largest_batch(segmentor, round(train / 0.9) + 1, training=True) == 2
    assert largest_batch(segmentor, round(train / 0.9) - 10, training=True) == 0
    assert largest_batch(segmentor, round(run / 0.9) - 10) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("training", [False, True])
def test_an_estimate_is_near_what_a_gpu_takes(training: bool, autocast: torch.dtype | None) -> None:
    config = find_config("piip_3branch_tsb_368-192-128_cls_token_deit1")
    measured = measure_memory(config, torch.device("cuda"), batch_size=8, training=training, autocast=autocast)
    estimated = estimate_memory(config, batch_size=8, training=training, autocast=autocast)
    assert estimated.weights == measured.weights
    assert estimated.step == pytest.approx(measured.step, rel=0.15)
    assert isinstance(measured, Memory)
    assert measured.total < 80 * GIB
