"""Finding the command, and what becomes of errors."""

import importlib
import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import piip as package
from piip.cli.console import plain_warnings
from piip.cli.main import main
from piip.images import ImageError, ImageWarning

COMMANDS = ("train", "eval", "predict", "models", "info", "bench", "convert", "shapes")


def test_commands_are_listed(piip: Any) -> None:
    for arguments, status in (((), 2), (("--help",), 0), (("-h",), 0)):
        result = piip(*arguments)
        assert result.status == status
        assert all(f" {command} " in result.out for command in COMMANDS)
    assert piip("--version").out.strip() == f"piip {package.__version__}"


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(piip: Any, command: str, width: int) -> None:
    result = piip(command, "--help", width=width)
    assert result.status == 0
    assert "(default: )" not in result.out.split(" training options ")[0]  # behind that, the settings of a recipe
    usage, *others = result.out.splitlines()
    assert len(usage) <= 100  # it is made without regard to the terminal
    assert max(map(len, others)) <= width
    lines = [line[2:].rstrip("│ ") for line in result.out.splitlines()]
    options = [number for number, line in enumerate(lines) if re.match("--[a-z]", line)]
    assert options
    for number in options:
        # The description stands beside the option, or on the next line.
        description = (lines[number].split("  ", 1)[1:] or [lines[number + 1]])[0]
        assert re.match(r"[\w\[]", description.strip()), f"{command}: {lines[number]}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "there is no command 'evaluate'; did you mean 'eval'?"),
        (["xyz"], "there is no command 'xyz'; there are bench, convert, eval, info, models, predict, shapes, train"),
        (["models", "--jsn", "x"], "--json"),
        (["eval", "m", "--data", "d", "--batchsize", "3"], "--batch-size"),
        (["predict", "m", "i", "--tpo", "3"], "--top"),
        (["predict", "m", "i", "--top", "many"], "invalid literal for int"),
        (["eval", "m", "--data", "d", "--precision", "fp8"], "fp16"),
        (
            ["info", "piip_demo_shape"],
            "model: there is no 'piip_demo_shape'; did you mean 'piip_demo_shapes_96-48-32'?",
        ),
    ],
)
def test_wrong_names_and_values(piip: Any, arguments: list[str], message: str) -> None:
    result = piip(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert message in result.err


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `piip models` fail."""

    def run(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module("piip.cli.models_command"), "run", run)


def test_errors_are_messages(piip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(ImageError("cannot read [bold]x[/].png"), monkeypatch)
    result = piip("models")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("error: cannot read [bold]x[/].png")
    raising(torch.OutOfMemoryError("no memory"), monkeypatch)
    result = piip("models")
    assert result.status == 2
    assert "no memory" in result.err
    assert "--batch-size" in result.err


def test_errors_of_others_say_how_to_see_more(piip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(OSError("disk full"), monkeypatch)
    assert piip("models").err.splitlines() == ["error: disk full", "(PIIP_TRACEBACK=1 shows where this comes from)"]
    monkeypatch.setenv("PIIP_TRACEBACK", "1")
    with pytest.raises(OSError, match="disk full"):
        main(["models"])


def test_interruptions_are_quiet(piip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(KeyboardInterrupt(), monkeypatch)
    result = piip("models")
    assert (result.status, result.out, result.err) == (130, "", "")


def test_main_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["piip", "nothing"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2


def test_as_a_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["piip", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("piip", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("piip ")


def test_installed_script(tmp_path: Path) -> None:
    """Read by something that stops reading."""
    script = Path(sys.executable).with_name("piip")
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [script, "models", "--json", "-"], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(writing)
    assert result.stderr == ""
    assert result.returncode == 1


def test_images_that_cannot_be_read_are_told_in_a_line_of_their_own() -> None:
    place = {"filename": "some/code.py", "lineno": 7, "line": "code()"}
    before = warnings.formatwarning("ours", UserWarning, **place)
    with plain_warnings():
        assert warnings.formatwarning("cannot read", ImageWarning, **place) == "note: cannot read\n"
        assert warnings.formatwarning("ours", UserWarning, **place) == before
    assert "code.py" in warnings.formatwarning("cannot read", ImageWarning, **place)
