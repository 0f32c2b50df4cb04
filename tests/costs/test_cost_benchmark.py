"""Times, measured in turn."""

import time
from typing import Any

import pytest
import torch
from torch import nn

from piip import ClassificationConfig, SeparateHeadsConfig
from piip.costs import measure_memory
from piip.costs.benchmark import Timing, benchmark
from piip.costs.workloads import Runner
from tiny_detector import tiny_detector
from tiny_models import tiny_pyramid

CLASSIFIER = ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=5))
CPU = torch.device("cpu")


def test_statistics() -> None:
    timing = Timing(name="one", image_size=(8, 8), batch_size=3, seconds=(0.5, 0.1, 0.2, 0.3, 0.4))
    assert timing.median == 0.3
    assert timing.throughput == pytest.approx(10)
    assert [timing.percentile(share) for share in (0, 10, 50, 100)] == pytest.approx([0.1, 0.14, 0.3, 0.5])
    assert Timing(name="two", image_size=(8, 8), batch_size=1, seconds=(0.25,)).percentile(90) == 0.25


def test_models_run_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, tuple[int, ...], bool]] = []

    def forward(self: Runner, images: torch.Tensor) -> None:
        ran.append((type(self.model).__name__, tuple(images.shape), torch.is_inference_mode_enabled()))
        time.sleep(0.02 if isinstance(self.model, nn.Module) and hasattr(self.model, "rpn") else 0.001)

    monkeypatch.setattr(Runner, "forward", forward)
    done: list[int] = []
    models = {"detector": tiny_detector(), "classifier": CLASSIFIER}
    detector, classifier = benchmark(
        models, CPU, batch_size=2, rounds=3, warmup=1, with_memory=False, progress=done.append
    )
    assert [name for name, _, _ in ran] == ["MaskRCNN", "ClassificationModel", "ClassificationModel", "MaskRCNN"] * 2
    assert {shape for _, shape, _ in ran} == {(2, 3, 96, 96), (2, 3, 48, 48)}
    assert all(inference for _, _, inference in ran)
    assert sum(done) == len(ran)
    assert (len(detector.seconds), detector.image_size, detector.memory) == (3, (96, 96), None)
    assert min(detector.seconds) >= 0.02 > classifier.median > 0.001


def test_memory_and_precision() -> None:
    (timing,) = benchmark({"one": CLASSIFIER}, CPU, batch_size=2, image_size=(48, 96), rounds=1, warmup=0)
    assert timing.memory == measure_memory(CLASSIFIER, CPU, batch_size=2, image_size=(48, 96))
    (half,) = benchmark({"one": CLASSIFIER}, CPU, rounds=1, warmup=0, autocast=torch.bfloat16)
    assert half.seconds[0] > 0


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"rounds": 0}, {"warmup": -1}])
def test_refused_by_name(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(ValueError, match=f"{name}: must be at least"):
        benchmark({"one": CLASSIFIER}, CPU, **setting)
