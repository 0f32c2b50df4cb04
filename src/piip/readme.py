"""The page of a model on the hub."""

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from piip.config import listing
from piip.pyramid import Pyramid

if TYPE_CHECKING:
    from piip.hub import PretrainedModel

README_NAME = "README.md"

_MARK = "<!-- Made by piip, and anew at the next push; remove this line to keep what you change. -->"

_PAGE = """\
---
library_name: piip
pipeline_tag: {task}
tags:
- image-pyramid
---

{mark}

# {title}

A {kind} {classes}.
It stands on a parameter-inverted image pyramid ([arXiv 2406.04330](https://arxiv.org/abs/2406.04330)) and has {params}
million parameters.

```python
{imports}

model = piip.{kind}.from_pretrained({source})
{use}
```

| branch | kind | image | width | million parameters |
|---|---|---|---|---|
{branches}
"""


_IMPORTS = "import piip"
_PREDICTION = 'print(model.predict("photo.jpg")[0])'

# Of a model without classes.
_IMPORTS_OF_FEATURES = """\
import piip
from piip.images import read_image"""
_FEATURES = """\
image = model.config.preprocess.build()(read_image("photo.jpg"))
print(model(image.unsqueeze(0))["features"].shape)"""


def readme(model: "PretrainedModel", name: str, revision: str | None = None) -> str:
    """What a model is made of, how it is loaded, and a first prediction; for the hub, what it is for.

    Args:
        model: of a task.
        name: of its repository, `owner/repository`.
        revision: branch that it is on, if not the usual one.
    """
    config, pyramid = model.config, next(part for part in model.modules() if isinstance(part, Pyramid))
    branches = [
        f"| {number} | {type(branch).__name__.removesuffix('Config')} | {branch.image_size} | {branch.channels[-1]} | "
        f"{_millions(pyramid.branches[number - 1])} |"
        for number, branch in enumerate(pyramid.config.branches, 1)
    ]
    task, classes, imports, use = "image-feature-extraction", "without classes", _IMPORTS_OF_FEATURES, _FEATURES
    if config.num_classes:
        names = f" ({listing(config.class_names)})" if config.class_names else ""
        task, classes = model.pipeline_tag, f"for {config.num_classes} classes{names}"
        imports, use = _IMPORTS, _PREDICTION
    return _PAGE.format(
        task=task,
        mark=_MARK,
        title=name.rpartition("/")[2],
        kind=type(model).__name__,
        params=_millions(model),
        classes=classes,
        imports=imports,
        source=f'"{name}"' if revision is None else f'"{name}", revision="{revision}"',
        use=use,
        branches="\n".join(branches),
    )


def is_own(page: Path) -> bool:
    """Whether a page was made here, and nobody has removed the line that tells it."""
    return _MARK.encode() in page.read_bytes().splitlines()


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f}"
