"""`piip info`."""

from pathlib import Path
from typing import Any

import pytest

from piip import ClassificationConfig
from piip.config import load_config
from piip.zoo.load import find_config


def test_parts_and_parameters(piip: Any) -> None:
    result = piip("info", "piip_3branch_tsb_368-192-128_cls_token_deit1")
    assert result.status == 0
    parts = ("after each of 12 stages: 3→2, 2→3, 2→1, 1→2; deformable, 16 heads", "1000 classes", "144.03M")
    assert all(part in result.out for part in parts)
    assert max(map(len, result.out.splitlines())) <= 100


def test_a_saved_model(piip: Any, model: Path) -> None:
    result = piip("info", model)
    assert result.status == 0
    assert str(model) in result.out.replace("\n", "")
    assert "SeparateHeads, 3 classes" in result.out


@pytest.mark.parametrize("name", ["piip_demo_shapes_96-48-32", None])
def test_json_is_a_configuration(piip: Any, model: Path, tmp_path: Path, name: str | None) -> None:
    chosen = name or model
    result = piip("info", chosen, "--json", "-")
    assert result.status == 0
    (tmp_path / "config.json").write_text(result.out)
    assert load_config(ClassificationConfig, tmp_path / "config.json") == find_config(chosen)
    assert piip("info", tmp_path).status == 0


def test_errors(piip: Any, tmp_path: Path) -> None:
    result = piip("info", tmp_path)
    assert result.status == 2
    assert "has no config.json" in result.err
    (tmp_path / "config.json").write_text("{")
    result = piip("info", tmp_path)
    assert result.status == 2
    assert "config.json: cannot be read as JSON" in result.err
