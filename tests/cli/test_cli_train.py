import json
import re
from dataclasses import replace

import pytest
import torch

from piip.cli import demo
from piip.config import read_json, save_config
from piip.tasks.classification.model import ClassificationModel
from piip.training.classification import scratch_recipe
from piip.training.schedule import StepSchedule
from piip.zoo.cards import list_models
from piip.zoo.load import create_model

NAME = "piip_demo_shapes_96-48-32"
QUICK = ("--training.epochs", 1, "--training.batch-size", 3, "--training.num-workers", 0, "--device", "cpu")


@pytest.fixture(autouse=True)
def own_accelerate(fresh_accelerate):
    """Each run has its own precision and processes."""


def test_a_run_prints_its_scores_and_leaves_models(piip, data, tmp_path):
    result = piip("train", NAME, "--data", data, "--out", tmp_path / "run", *QUICK, width=80)
    assert result.status == 0, result.err
    assert "epoch 1" in result.err
    assert "random weights" in result.err
    assert all(len(line) <= 80 for line in result.out.splitlines() if "│" in line)
    folders = "".join(line.split("│")[-2].strip() for line in result.out.splitlines() if "│" in line)
    assert folders == f"{tmp_path / 'run' / 'best'}{tmp_path / 'run' / 'final'}"
    assert f"piip predict {tmp_path / 'run' / 'best'} IMAGE" in result.out
    for folder in ("best", "final"):
        assert ClassificationModel.from_pretrained(tmp_path / "run" / folder).config.class_names
    assert piip("predict", tmp_path / "run" / "best", data / "val").status == 0
    wrong = piip("predict", tmp_path / "run", data / "val")
    assert wrong.status == 2
    assert f"name {tmp_path / 'run' / 'best'}" in " ".join(wrong.err.split())


def test_results_as_json(piip, data, tmp_path):
    result = piip("train", NAME, "--data", data, "--out", tmp_path / "run", *QUICK, "--json", "-")
    found = json.loads(result.out)
    assert found["steps"] == 1
    assert found["best"] == str(tmp_path / "run" / "best")
    assert set(found["scores"]) == {"top1", "top5", "loss"}


def test_settings_reach_the_recipe(piip, data, tmp_path):
    settings = ("--training.optimizer.lr", 0.125, "--mixing.label-smoothing", 0.25, "--augmentation.hflip", 0)
    assert piip("train", NAME, "--data", data, "--out", tmp_path / "run", *QUICK, *settings).status == 0
    recipe = read_json(tmp_path / "run" / "recipe.json")
    assert recipe["training"]["optimizer"]["lr"] == 0.125
    assert recipe["mixing"]["label_smoothing"] == 0.25
    assert recipe["augmentation"]["hflip"] == 0


def test_a_recipe_file_is_the_default_of_the_settings(piip, data, tmp_path):
    recipe = scratch_recipe()
    recipe = replace(recipe, training=replace(recipe.training, seed=7, schedule=StepSchedule(gamma=0.5)))
    save_config(recipe, tmp_path / "mine.json")
    run = tmp_path / "run"
    result = piip("train", NAME, "--data", data, "--out", run, "--recipe", tmp_path / "mine.json", *QUICK)
    assert result.status == 0, result.err
    training = read_json(run / "recipe.json")["training"]
    assert (training["seed"], training["schedule"]["gamma"], training["epochs"]) == (7, 0.5, 1)


def test_a_finished_run_can_be_resumed_but_not_overwritten(piip, data, tmp_path):
    command = ("train", NAME, "--data", data, "--out", tmp_path / "run", *QUICK)
    assert piip(*command).status == 0
    again = piip(*command)
    assert again.status == 2
    assert "holds a run; resume it (--resume)" in again.err
    assert piip(*command, "--resume").status == 0


def test_released_models_have_the_recipe_of_the_paper(piip, capsys):
    released = next(iter(list_models("piip_3branch_tsb*")))
    assert piip("train", released, "--help").status == 0
    text = " ".join(piip("train", released, "--help").out.split())
    assert "(default: 1024)" in text
    assert "3e-05" in text


def test_training_goes_on_from_a_trained_model(piip, model, data, tmp_path):
    result = piip("train", model, "--data", data, "--out", tmp_path / "run", *QUICK, "--training.optimizer.lr", 0)
    assert result.status == 0, result.err
    before, after = (ClassificationModel.from_pretrained(path) for path in (model, tmp_path / "run" / "final"))
    for name, tensor in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["piip_demo_shapes"], "did you mean 'piip_demo_shapes_96-48-32'"),
        ([NAME, "--training.epochs", "0"], "training.epochs: must be at least 1, got 0"),
        ([NAME, "--training.batch-size", "4"], "num_samples=3 do not fill one batch"),
        ([NAME, "--training.epoch", "3"], "--training.epochs"),
        (
            [NAME, "--training.batch-size", "3", "--training.optimizer.lr-multipliers", "heads", "2"],
            "'heads'; did you mean 'head",
        ),
        ([NAME, "--recipe", "nowhere.json"], "recipe: 'nowhere.json' is no file and no recipe"),
        ([NAME, "--weights", "nowhere.pth"], "nowhere.pth"),
        ([NAME, "--weights", "official"], f"weights: the official release has none for {NAME}"),
        ([NAME, "--pretrained", "deit:a.pth"], "pretrained"),
        ([NAME, "--pretrained", "card"], f"pretrained: the card of {NAME} names no pretrained models"),
        ([NAME, "--data", "nowhere"], "'nowhere/train' is no folder"),
    ],
)
def test_mistakes_get_a_message(piip, data, tmp_path, arguments, message):
    data_option = [] if "--data" in arguments else ["--data", data]
    result = piip("train", *arguments, *data_option, "--out", tmp_path / "run", "--training.num-workers", 0)
    assert result.status == 2
    assert message in " ".join(result.err.split())
    assert not (tmp_path / "run").exists()


def test_out_that_is_a_file_is_named(piip, data, tmp_path):
    (tmp_path / "file").touch()
    for out in ("file", "file/run"):
        result = piip("train", NAME, "--data", data, "--out", tmp_path / out, *QUICK)
        assert result.status == 2
        assert f"--out: '{tmp_path / 'file'}' is a file; name a folder" in " ".join(result.err.split())


def test_a_new_run_starts_from_a_checkpoint_with_other_settings(piip, data, tmp_path):
    command = ("train", NAME, "--data", data, "--out", tmp_path / "run", *QUICK)
    assert piip(*command).status == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000001"
    settings = ("--recipe", tmp_path / "run" / "recipe.json", "--training.optimizer.lr", 0, "--device", "cpu")
    result = piip("train", checkpoint, "--data", data, "--out", tmp_path / "new", *settings)
    assert result.status == 0, result.err
    assert "random weights" not in result.err
    assert read_json(tmp_path / "new" / "recipe.json")["training"]["optimizer"]["lr"] == 0
    before, after = (create_model(folder).state_dict() for folder in (checkpoint, tmp_path / "new" / "final"))
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=0)


def test_what_is_not_trained_is_told(piip, data, tmp_path, model):
    config = ClassificationModel.from_pretrained(model).config
    one_head = replace(config, head=replace(config.head, branches=(2,)))
    one_head.build().save_pretrained(tmp_path / "model")
    result = piip("train", tmp_path / "model", "--data", data, "--out", tmp_path / "run", *QUICK)
    told = r"^\d+ parameters are not trained, since no loss depends on them: 'pyramid\.interactions.* and \d+ more$"
    assert re.search(told, result.err, re.MULTILINE)


def test_a_named_recipe(piip, data, tmp_path):
    result = piip("train", NAME, "--recipe", "finetune", "--data", data, "--out", tmp_path / "run", *QUICK)
    assert result.status == 0, result.err
    assert read_json(tmp_path / "run" / "recipe.json")["training"]["optimizer"]["lr"] == 5e-5


def test_the_help_says_which_recipe_is_the_default(piip):
    text = " ".join(piip("train", "--help").out.replace("│", " ").split())
    assert "By default that of a named model's card, and finetune for folders" in text


def test_the_model_comes_first(piip, data, tmp_path):
    result = piip("train", "--data", data, NAME, "--out", tmp_path / "run")
    assert result.status == 2
    assert f"piip train {NAME} ..." in result.err


@pytest.mark.slow
def test_the_demo_from_nothing_to_pictures(tmp_path, capsys):
    demo.main(tmp_path / "demo", num_train=16, num_val=12, epochs=1)
    printed = capsys.readouterr().out
    assert "held-out AP" in printed
    assert (tmp_path / "demo" / "pictures" / "sheet.png").is_file()
    assert len(list((tmp_path / "demo" / "pictures" / "each").glob("*.png"))) == 12
