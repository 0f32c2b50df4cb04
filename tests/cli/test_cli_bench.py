"""`piip bench`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from piip.cli import bench_command
from piip.costs import GIB, Memory
from piip.costs.benchmark import Timing


def test_table_json_and_plot(piip: Any, model: Path, detector: Path, tmp_path: Path) -> None:
    files = ["--json", tmp_path / "new" / "times.json", "--plot", tmp_path / "new" / "times.png"]
    result = piip("bench", model, detector, "--rounds", 3, "--warmup", 1, "--batch-size", 2, "--device", "cpu", *files)
    assert result.status == 0
    assert "fp32, batches of 2; ratios are to the first" in result.out
    written = json.loads((tmp_path / "new" / "times.json").read_text())
    first, second = written["models"]
    assert (first["name"], second["name"]) == (str(model), str(detector))
    assert len(first["seconds"]) == 3
    assert first["percentiles"]["10"] <= first["median"] <= first["percentiles"]["90"]
    assert first["throughput"] == pytest.approx(2 / first["median"])
    assert (first["ratio"], second["ratio"]) == (1, pytest.approx(second["median"] / first["median"]))
    assert first["memory"]["weights"] > 0
    with Image.open(tmp_path / "new" / "times.png") as plot:
        assert plot.format == "PNG"


@pytest.mark.parametrize("width", [80, 100])
def test_two_lines_for_each_model(piip: Any, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Also for what is slow and large: nothing is cut."""
    memory = Memory(weights=60 * GIB, step=70 * GIB, optimizer=0)
    seconds = (123.4, 123.5, 123.6)
    names = ["mask_rcnn_convnext-t_convnext-s_vit-b_1024_672_448_regular-fpn", "piip_demo_shapes_96-48-32"]
    timings = [
        Timing(name=name, image_size=(1792, 1792), batch_size=1, seconds=seconds, memory=memory) for name in names
    ]
    monkeypatch.setattr(bench_command, "benchmark", lambda *_, **__: timings)
    lines = piip("bench", *names, "--device", "cpu", width=width).out.splitlines()
    assert lines[0].split() == ["image", "median", "p10", "p90", "images/s", "memory", "ratio"]
    assert lines[1::2][:2] == names
    figures = ["123500.0 ms", "123420.0 ms", "123580.0 ms", "0.0", "130.00 GiB", "1.00"]
    assert [re.split("  +", line.strip()) for line in lines[2::2][:2]] == [["1792x1792", *figures]] * 2
    assert max(map(len, lines)) <= 80


def test_json_alone(piip: Any, model: Path) -> None:
    arguments = ["--rounds", 1, "--warmup", 0, "--size", 48, 64, "--precision", "bf16", "--json", "-"]
    written = json.loads(piip("bench", model, *arguments).out)
    assert written["models"][0]["image_size"] == [48, 64]
    assert "bf16" in written["setting"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "MODEL: none given"),
        (("piip_demo_shapes_96-48-32",) * 2, "MODEL: one is named twice"),
        (("piip_demo_shapes_96-48-3",), "did you mean 'piip_demo_shapes_96-48-32'?"),
        (("piip_demo_shapes_96-48-32", "--rounds", 0), "rounds: must be at least 1, got 0"),
        (("piip_demo_shapes_96-48-32", "--size", 1, 2, 3), "--size: expected the side"),
    ],
)
def test_errors(piip: Any, arguments: tuple[object, ...], message: str) -> None:
    result = piip("bench", *arguments)
    assert result.status == 2
    assert message in result.err
