"""What training knows of the tasks: recipes by name, by model and from files, and models to start from."""

from dataclasses import replace

import pytest
import torch

from piip.config import save_config
from piip.training.classification import finetune_recipe, released_recipe, scratch_recipe
from piip.training.dino_recipes import dino_finetune_recipe
from piip.training.kinds import default_recipe, kind_of, prepare_model
from piip.zoo.cards import find_card, list_models
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino
from tiny_models import randomised
from tiny_segmenter import tiny_segmenter

CLASSIFIER, DETECTOR = "piip_demo_shapes_96-48-32", "mask_rcnn_demo_shapes_192-96-64"
SEGMENTOR = "upernet_demo_shapes_192-96-64"


@pytest.mark.parametrize("name", list_models())
def test_every_card_has_a_recipe_of_its_task(name: str) -> None:
    kind = kind_of(find_card(name).config())
    assert isinstance(kind.find_recipe(default_recipe(name)), kind.recipe_class)


def test_released_models_have_the_official_recipes() -> None:
    recipes = {name: default_recipe(name) for name in list_models()}
    assert {recipe for name, recipe in recipes.items() if name.startswith("piip_3branch")} == {"released"}
    detectors = {recipe for name, recipe in recipes.items() if name.startswith("mask_rcnn_deit")}
    assert detectors == {"vit-1x", "vit-baseline-1x"}
    assert {recipe for name, recipe in recipes.items() if name.startswith("upernet_internvit")} == {"internvit-80k"}
    assert {recipe for name, recipe in recipes.items() if name.startswith("paper_upernet_deit")} == {"vit-160k"}
    assert recipes[CLASSIFIER] == recipes[DETECTOR] == recipes[SEGMENTOR] == "scratch"


def test_a_folder_is_tuned_further(tmp_path) -> None:
    (tmp_path / "config.json").touch()
    assert default_recipe(tmp_path) == "finetune"


def test_a_recipe_has_a_name_or_a_file(tmp_path) -> None:
    kind = kind_of(find_card(CLASSIFIER).config())
    assert kind.find_recipe("finetune") == finetune_recipe()
    assert kind.find_recipe("scratch") == scratch_recipe()
    save_config(released_recipe(), tmp_path / "mine.json")
    assert kind.find_recipe(str(tmp_path / "mine.json")) == released_recipe()
    with pytest.raises(ValueError, match=r"recipe: 'finetun' is no file and no recipe; did you mean 'finetune'"):
        kind.find_recipe("finetun")
    with pytest.raises(ValueError, match="expected 'DetectionRecipe', got 'ClassificationRecipe'"):
        kind_of(tiny_detector()).find_recipe(str(tmp_path / "mine.json"))


def test_a_detector_for_other_classes_keeps_what_fits_and_tells_what_is_new(tmp_path) -> None:
    config = replace(tiny_detector(), class_names=("circle", "square", "triangle"))
    trained = randomised(config.build())
    trained.save_pretrained(tmp_path)
    model, renewed, kept = prepare_model(tmp_path, None, ("cat", "dog"), seed=0)
    assert kept == ()
    assert model.config.class_names == ("cat", "dog")
    assert {name.rpartition(".")[0] for name in renewed} == {
        "box_head.classifier",
        "box_head.regressor",
        "mask_head.logits",
    }
    own = model.state_dict()
    assert own["box_head.classifier.weight"].shape[0] == 3
    assert all(torch.equal(own[name], tensor) for name, tensor in trained.state_dict().items() if name not in renewed)
    assert prepare_model(tmp_path, None, config.class_names, seed=0).renewed == ()


def test_classes_of_the_same_name_are_kept_in_any_order(tmp_path) -> None:
    trained = randomised(replace(tiny_detector(), class_names=("circle", "square", "triangle")).build())
    trained.save_pretrained(tmp_path)
    model, _, kept = prepare_model(tmp_path, None, ("triangle", "cat", "circle", "dog"), seed=0)
    assert kept == ("triangle", "circle")
    for ours, theirs in ((0, 2), (2, 0)):
        for layer, rows in (("classifier", 1), ("regressor", 4)):
            own, old = (getattr(one.box_head, layer).weight.unflatten(0, (-1, rows)) for one in (model, trained))
            assert torch.equal(own[ours], old[theirs])
        assert torch.equal(model.mask_head.logits.weight[ours], trained.mask_head.logits.weight[theirs])
    assert torch.equal(model.box_head.classifier.bias[-1], trained.box_head.classifier.bias[-1])
    assert not torch.equal(model.box_head.classifier.weight[1], trained.box_head.classifier.weight[1])


def test_a_dino_for_other_classes_keeps_those_of_the_same_name(tmp_path) -> None:
    trained = randomised(tiny_dino(class_names=("circle", "square", "triangle")).build())
    trained.save_pretrained(tmp_path)
    model, renewed, kept = prepare_model(tmp_path, None, ("cat", "triangle"), seed=0)
    assert kept == ("triangle",)
    assert "denoising.label_embed.weight" in renewed
    assert torch.equal(model.selection.classifier.weight[1], trained.selection.classifier.weight[2])
    assert kind_of(model.config).find_recipe(default_recipe(tmp_path)) == dino_finetune_recipe()


def test_a_detector_without_names_takes_them_over(tmp_path) -> None:
    trained = randomised(tiny_detector().build())
    trained.save_pretrained(tmp_path)
    model, renewed, _ = prepare_model(tmp_path, None, ("a", "b", "c"), seed=0)
    assert renewed == ()
    assert model.config.class_names == ("a", "b", "c")
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in trained.state_dict().items())


def test_a_segmentor_for_other_classes_keeps_those_of_the_same_name(tmp_path) -> None:
    config = tiny_segmenter(class_names=("road", "sky", "tree"), palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    trained = randomised(config.build())
    trained.save_pretrained(tmp_path)
    model, renewed, kept = prepare_model(tmp_path, None, ("tree", "car"), seed=0)
    assert kept == ("tree",)
    assert {name.rpartition(".")[0] for name in renewed} == {"decode_head.classifier", "auxiliary_head.classifier"}
    assert model.config.palette == ()
    assert torch.equal(model.decode_head.classifier.weight[0], trained.decode_head.classifier.weight[2])
    assert prepare_model(tmp_path, None, config.class_names, seed=0).model.config == config
