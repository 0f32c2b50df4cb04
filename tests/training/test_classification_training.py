import shutil
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from piip.images import ImageWarning
from piip.sampling import AugmentedDataset, EpochBatchSampler
from piip.shapes import ShapesConfig, write_image_folder
from piip.tasks.classification.data import AugmentationConfig, PreprocessConfig, find_classes, open_image_folder
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.mixing import MixingConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.training.classification import (
    ClassificationRecipe,
    ClassificationTask,
    scratch_recipe,
)
from piip.training.kinds import prepare_model
from piip.training.loop import train
from piip.training.optimizer import OptimizerConfig
from piip.weights import WEIGHTS_NAME
from piip.zoo.cards import UnknownModelError
from tiny_models import randomised, tiny_pyramid, tiny_vit

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
CLASSES = ("circle", "square", "triangle")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    config = ShapesConfig(num_classes=3, image_size=48, min_size=0.5)
    root = tmp_path_factory.mktemp("data") / "shapes"
    return write_image_folder(root, config, num_train=12, num_val=6)


def tiny_config(names=CLASSES, head=None):
    return ClassificationConfig(
        pyramid=tiny_pyramid(tiny_vit(embed_dim=64, patch_size=8), tiny_vit(image_size=48, patch_size=8)),
        head=head or SeparateHeadsConfig(num_classes=len(names)),
        preprocess=PreprocessConfig(input_size=48),
        class_names=names,
    )


def plain_recipe(**training):
    recipe = scratch_recipe()
    return replace(
        recipe,
        training=replace(recipe.training, num_workers=0, **training),
        augmentation=AugmentationConfig(
            scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, color_jitter=0.0, auto_augment=None
        ),
        mixing=MixingConfig(mixup=0.0, cutmix=0.0, label_smoothing=0.0),
    )


def test_the_classes_of_the_data(shapes):
    assert sorted(find_classes(shapes, "train")) == sorted(CLASSES)


@pytest.mark.parametrize("head", [SeparateHeadsConfig(num_classes=3), MergedHeadConfig(num_classes=3)])
def test_a_tiny_model_overfits_a_handful_of_images(shapes, tmp_path, head):
    torch.manual_seed(0)
    names = find_classes(shapes, "train")
    recipe = plain_recipe(epochs=60, batch_size=6, evaluate_every=60, optimizer=OptimizerConfig(lr=2e-3))
    task = ClassificationTask(tiny_config(names, head).build(), recipe, shapes)
    task.val_data = open_image_folder(shapes, "train", task.model.config.preprocess.build())
    task.num_val = len(task.val_data)
    result = train(task, tmp_path / "run")
    assert result.scores["top1"] == 100
    assert result.scores["loss"] < 0.1


@pytest.mark.parametrize(("world_size", "parts"), [(2, 1), (1, 3), (3, 2)])
def test_mixed_batches_have_the_same_loss_on_any_number_of_processes_and_parts(shapes, world_size, parts):
    torch.manual_seed(0)
    recipe = replace(plain_recipe(epochs=1, batch_size=12), mixing=MixingConfig())
    names = find_classes(shapes, "train")
    task = ClassificationTask(randomised(tiny_config(names).build()), recipe, shapes)
    data = AugmentedDataset(task.train_data, seed=0)

    def loss(rank, world_size, parts):
        sampler = EpochBatchSampler(12, 12, rank=rank, world_size=world_size, parts=parts)
        batches = DataLoader(data, batch_sampler=sampler, collate_fn=task.collate)
        losses = [task.losses(task.model, batch, (0, 0, 0))["cross_entropy"] for batch in batches]
        return torch.stack(losses).mean()

    shared = torch.stack([loss(rank, world_size, parts) for rank in range(world_size)]).mean()
    torch.testing.assert_close(shared, loss(0, 1, 1), rtol=1e-5, atol=1e-6)


def test_data_with_other_classes_are_refused(shapes):
    with pytest.raises(ValueError, match="'hexagon' missing"):
        ClassificationTask(tiny_config(("circle", "hexagon")).build(), plain_recipe(), shapes)
    nameless = replace(tiny_config(), class_names=(), head=SeparateHeadsConfig(num_classes=5))
    with pytest.raises(ValueError, match="has 3 classes, and the model has 5"):
        ClassificationTask(nameless.build(), plain_recipe(), shapes)


def test_damaged_images_do_not_end_a_training(shapes, tmp_path):
    shutil.copytree(shapes, tmp_path / "data")
    damaged = {split: tmp_path / "data" / split / "circle" / "damaged.png" for split in ("train", "val")}
    for split, path in damaged.items():
        min((tmp_path / "data" / split / "circle").iterdir()).rename(path)
        path.write_bytes(path.read_bytes()[:100])
    task = ClassificationTask(tiny_config().build(), plain_recipe(epochs=1, batch_size=6), tmp_path / "data")
    with pytest.warns(ImageWarning) as told:
        result = train(task, tmp_path / "run", cpu=True)
    assert result.steps == 2
    messages = [str(warning.message) for warning in told]
    cause = "image file is truncated"
    assert f"cannot read image '{damaged['train']}': {cause}; another image is taken in its place" in messages
    assert messages[-2:] == [
        f"cannot read image '{damaged['val']}': {cause}; it is left out of the evaluation",
        "scored on 5 of 6 held-out images: the others cannot be read",
    ]


def test_data_without_held_out_images_are_refused(shapes, tmp_path):
    (tmp_path / "train").symlink_to(shapes / "train")
    names = find_classes(shapes, "train")
    with pytest.raises(ValueError, match=r"val' is no folder"):
        ClassificationTask(tiny_config(names).build(), plain_recipe(), tmp_path)


def test_a_named_model_starts_from_reproducible_random_weights():
    first, second, other = (
        prepare_model("piip_demo_shapes_96-48-32", None, CLASSES, seed).model.state_dict() for seed in (0, 0, 1)
    )
    name = "pyramid.branches.0.blocks.0.mlp.fc1.weight"
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first[name], other[name])
    assert first["head.branches.1.linear.weight"].shape[0] == 3


@pytest.mark.parametrize("head", [SeparateHeadsConfig(num_classes=3), MergedHeadConfig(num_classes=3)])
def test_a_trained_model_keeps_everything_but_its_classifiers_for_other_classes(tmp_path, head):
    trained = randomised(tiny_config(head=head).build())
    trained.save_pretrained(tmp_path)
    again = prepare_model(tmp_path, None, CLASSES, seed=1).model.state_dict()
    other, renewed, _ = prepare_model(tmp_path, None, ("cat", "dog"), seed=1)
    assert other.config.class_names == ("cat", "dog")
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)
        replaced = name.startswith("head.") and ".linear." in f".{name}" and "merging" not in name
        assert (name in renewed) == replaced
        if replaced:
            assert other.state_dict()[name].shape[0] == 2
        else:
            torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0)


def test_weights_of_a_named_model(tmp_path):
    named = prepare_model("piip_demo_shapes_96-48-32", None, tuple(f"{i:04d}" for i in range(1000)), seed=3).model
    named.save_pretrained(tmp_path)
    loaded = prepare_model("piip_demo_shapes_96-48-32", tmp_path / WEIGHTS_NAME, CLASSES, seed=0).model
    name = "pyramid.branches.0.pos_embed"
    torch.testing.assert_close(loaded.state_dict()[name], named.state_dict()[name])
    assert loaded.config.class_names == CLASSES


def test_an_unknown_model_is_refused():
    with pytest.raises(UnknownModelError, match="did you mean"):
        prepare_model("piip_demo_shapes_96-48-23", None, CLASSES, seed=0)


def test_training_goes_on_from_a_trained_model(shapes, tmp_path):
    names = find_classes(shapes, "train")
    first = train(
        ClassificationTask(tiny_config(names).build(), plain_recipe(epochs=1, batch_size=4), shapes), tmp_path / "1"
    )
    model = prepare_model(first.final, None, names, seed=0).model
    assert isinstance(model, ClassificationModel)
    recipe: ClassificationRecipe = plain_recipe(epochs=1, batch_size=4)
    assert train(ClassificationTask(model, recipe, shapes), tmp_path / "2").steps == 3
