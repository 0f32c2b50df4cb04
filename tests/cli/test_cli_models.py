"""`piip models`."""

import json
from pathlib import Path
from typing import Any

from piip import list_models


def test_one_line_for_each_model(piip: Any) -> None:
    result = piip("models")
    assert result.status == 0
    lines = [line for line in result.out.splitlines() if line.startswith("piip_")]
    assert [line.split()[0] for line in lines] == list_models()
    assert max(map(len, result.out.splitlines())) <= 100
    assert all(figure in result.out for figure in ("82.1", "85.2", "85.9", "489M", "17.4G"))
    assert len(result.out.splitlines()) == len(lines) + 3  # a header, a rule, a note


def test_patterns(piip: Any) -> None:
    result = piip("models", "*tsb*")
    assert [line.split()[0] for line in result.out.splitlines() if line.startswith("piip_")] == list_models("*tsb*")
    result = piip("models", "piip_demo")
    assert (result.status, result.out) == (2, "")
    assert "PATTERN: no model matches 'piip_demo'" in result.err


def test_json(piip: Any, tmp_path: Path) -> None:
    printed = json.loads(piip("models", "--json", "-").out)
    assert [card["name"] for card in printed] == list_models()
    assert printed[-2]["published"] == {"top1": 82.1, "params": 144, "flops": 17.4}
    assert piip("models", "--json", tmp_path / "new" / "models.json").out == ""
    assert json.loads((tmp_path / "new" / "models.json").read_text()) == printed
