"""The tasks that there are to train for, by the kind of model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from piip.config import ConfigError, load_config, nearest
from piip.pyramid import Pyramid
from piip.sampling import derive_seed
from piip.tasks.classification.data import find_classes
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.tasks.detection.detector import Detector
from piip.tasks.detection.dino.model import DINOConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.tasks.segmentation import files as segmentation_files
from piip.tasks.segmentation.upernet.model import UperNet, UperNetConfig
from piip.training import (
    classification,
    detection,
    detection_recipes,
    dino_recipes,
    segmentation,
    segmentation_recipes,
)
from piip.training.task import Task
from piip.zoo.cards import AnyConfig, find_card
from piip.zoo.load import AnyModel, create_model, find_config, is_saved


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """What training asks of a task before it begins.

    Attributes:
        name: what a message calls its models.
        recipe_class: of its recipes.
        recipes: those that have a name; `finetune` is one of them.
        class_names: the names of the classes in a dataset.
        make_task: puts a model, a recipe and a dataset together.
        pretrained_part: what of a model takes the weights of pretrained branches.
        open_data: reads of a dataset what `class_names` and `make_task` both need; by default nothing but its path.
    """

    name: str
    recipe_class: type[Any]
    recipes: Mapping[str, Callable[[], Any]]
    class_names: Callable[[Any], tuple[str, ...]]
    make_task: Callable[[Any, Any, Any], Task[Any]]
    pretrained_part: Callable[[Any], ClassificationModel | Pyramid]
    open_data: Callable[[Path], Any] = Path

    def find_recipe(self, name: str) -> Any:
        """The recipe of a name, or of a file such as a run's `recipe.json`.

        Raises:
            ConfigError: when there is neither, or the file cannot be read.
        """
        if name in self.recipes:
            return self.recipes[name]()
        if not Path(name).is_file():
            raise ConfigError(f"recipe: {name!r} is no file and no recipe{nearest(name, list(self.recipes))}")
        return load_config(self.recipe_class, Path(name))


def _detector(name: str, recipes: Mapping[str, Callable[[], Any]]) -> TaskKind:
    return TaskKind(
        name=name,
        recipe_class=detection.DetectionRecipe,
        recipes=recipes,
        class_names=lambda data: data.train.class_names,
        make_task=detection.DetectionTask,
        pretrained_part=lambda model: model.backbone.pyramid,
        open_data=detection.read_data,
    )


_KINDS: dict[type[Any], TaskKind] = {
    ClassificationConfig: TaskKind(
        name="classifiers",
        recipe_class=classification.ClassificationRecipe,
        recipes=classification.RECIPES,
        class_names=lambda data: find_classes(data, "train"),
        make_task=classification.ClassificationTask,
        pretrained_part=lambda model: model,
    ),
    MaskRCNNConfig: _detector("Mask R-CNN", detection_recipes.RECIPES),
    DINOConfig: _detector("DINO", dino_recipes.RECIPES),
    UperNetConfig: TaskKind(
        name="UperNet",
        recipe_class=segmentation.SegmentationRecipe,
        recipes=segmentation_recipes.RECIPES,
        class_names=segmentation_files.read_class_names,
        make_task=segmentation.SegmentationTask,
        pretrained_part=lambda model: model.backbone.pyramid,
    ),
}


def kind_of(config: AnyConfig) -> TaskKind:
    """The task of a model."""
    return _KINDS[type(config)]


def recipe_listing() -> str:
    """The names of the recipes of each kind of model, for people."""
    return "; ".join(f"for {kind.name}: {', '.join(kind.recipes)}" for kind in _KINDS.values())


def default_recipe(model: str | Path) -> str:
    """Which recipe fits a model: `finetune` for one in a folder, of a named one that of its card."""
    return "finetune" if is_saved(model) else find_card(str(model)).recipe


class Start(NamedTuple):
    """A model to start training from.

    Attributes:
        model: for the classes of the data.
        renewed: names of the tensors that are new because they belong to the classes.
        kept_classes: whose parts of those tensors are kept.
    """

    model: AnyModel
    renewed: tuple[str, ...] = ()
    kept_classes: tuple[str, ...] = ()


def prepare_model(name: str | Path, weights: str | Path | None, class_names: tuple[str, ...], seed: int) -> Start:
    """The model to start training from: for these classes, on the CPU.

    Args:
        name: of a model, or the folder of one; see `piip.create_model`.
        weights: of a named model; without, its weights are random.
        class_names: of the data. If they are not those of the model, it gets new classifiers.
        seed: of everything random.

    Raises:
        ValueError: as `piip.create_model` does.
    """
    torch.manual_seed(derive_seed("init", seed))
    if weights is None and not is_saved(name):
        return Start(find_config(name).with_classes(class_names).build())
    loaded = create_model(name, weights)
    model = loaded.with_classes(class_names)
    old, new = loaded.state_dict(), model.state_dict()
    renewed = tuple(name for name in loaded.class_tensors if not torch.equal(old[name], new[name]))
    kept = tuple(name for name in class_names if name in loaded.config.class_names)
    return Start(model, renewed, kept if renewed and isinstance(loaded, Detector | UperNet) else ())
