"""The page of a model on the hub."""

from typing import TYPE_CHECKING

from torch import nn

from piip.config import listing
from piip.pyramid import Pyramid

if TYPE_CHECKING:
    from piip.hub import PretrainedModel

README_NAME = "README.md"

_PAGE = """\
---
library_name: piip
pipeline_tag: {task}
tags:
- image-pyramid
---

# {title}

A {kind} {classes}.
It stands on a parameter-inverted image pyramid ([arXiv 2406.04330](https://arxiv.org/abs/2406.04330)) and has {params}
million parameters.

```python
import piip

model = piip.{kind}.from_pretrained("{name}")
{use}
```

| branch | kind | image | width | million parameters |
|---|---|---|---|---|
{branches}
"""


def readme(model: "PretrainedModel", name: str) -> str:
    """What a model is made of, how it is loaded, and a first prediction; for the hub, what it is for.

    Args:
        model: of a task.
        name: of its repository, `owner/repository`.
    """
    config, pyramid = model.config, next(part for part in model.modules() if isinstance(part, Pyramid))
    branches = [
        f"| {number} | {type(branch).__name__.removesuffix('Config')} | {branch.image_size} | {branch.channels[-1]} | "
        f"{_millions(pyramid.branches[number - 1])} |"
        for number, branch in enumerate(pyramid.config.branches, 1)
    ]
    task, classes, use = "image-feature-extraction", "without classes", 'features = model(images)["features"]'
    if config.num_classes:
        names = f" ({listing(config.class_names)})" if config.class_names else ""
        task, classes = model.pipeline_tag, f"for {config.num_classes} classes{names}"
        use = 'print(model.predict("photo.jpg")[0])'
    return _PAGE.format(
        task=task,
        title=name.rpartition("/")[2],
        kind=type(model).__name__,
        params=_millions(model),
        classes=classes,
        name=name,
        use=use,
        branches="\n".join(branches),
    )


def _millions(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f}"
