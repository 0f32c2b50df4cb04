"""`import piip`: needs no extra, and brings in no more than the core uses."""

import json
import subprocess
import sys
from typing import Any

SCRIPT = """
import json, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {absent} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
import torch, torchvision, timm
before = set(sys.modules)
import piip
names = [name for name in piip.__all__ if not hasattr(piip, name)]
new = sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names))
import piip.cli.main, contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    status = [piip.cli.main.run([command, *rest]) for command, *rest in {commands}]
print(json.dumps([names, new, status]))
"""


def import_without(absent: list[str], commands: list[list[str]]) -> Any:
    """What is missing from `piip`, which packages it brought in, how these commands ended, and their errors."""
    script = SCRIPT.format(absent=set(absent), commands=commands)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return *json.loads(result.stdout), result.stderr


def test_no_extra_is_needed() -> None:
    absent = ["accelerate", "tensorboard", "faster_coco_eval", "pycocotools", "skimage", "hypothesis", "pytest"]
    commands = [["models", "--json", "-"], ["info", "piip_demo_shapes_96-48-32"], ["predict", "--help"], ["train", "."]]
    missing, new, status, errors = import_without(absent, commands)
    assert missing == []
    assert status == [0, 0, 0, 2]
    assert "piip[train]" in errors
    # The command line is not among them: it is for those who call it.
    core = {
        "huggingface_hub",
        "markdown_it",
        "mdurl",
        "numpy",
        "packaging",
        "pygments",
        "rich",
        "safetensors",
        "scipy",
        "torch",
        "torchvision",
    }
    assert set(new) <= {"piip", *core}, new
