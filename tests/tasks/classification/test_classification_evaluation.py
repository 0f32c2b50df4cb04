"""Evaluation: every image once, on any number of processes."""

import itertools
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from torch import Tensor

from piip import ClassificationConfig, ClassificationModel, MergedHeadConfig, PreprocessConfig, SeparateHeadsConfig
from piip.images import ImageError
from piip.shapes import ShapesConfig, write_image_folder
from piip.tasks.classification.data import ImageFolder, open_image_folder
from piip.tasks.classification.evaluation import evaluate
from piip.tasks.classification.metric import ClassificationScores
from tiny_models import randomised, tiny_pyramid

NUM_IMAGES = 13


def make_model() -> ClassificationModel:
    torch.manual_seed(0)
    config = ClassificationConfig(
        pyramid=tiny_pyramid(),
        head=SeparateHeadsConfig(num_classes=6),
        preprocess=PreprocessConfig(input_size=48),
    )
    return randomised(config.build())


class CountingFolder(ImageFolder):
    """Remembers which images were read."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.__dict__.setdefault("read", []).append(index)
        return super().__getitem__(index)


def counting(folder: Path) -> CountingFolder:
    dataset = open_image_folder(folder, "val", PreprocessConfig(input_size=48).build())
    return CountingFolder(dataset.class_names, dataset.samples, dataset.transform)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ShapesConfig(num_classes=6, image_size=48)
    return write_image_folder(tmp_path_factory.mktemp("data") / "shapes", config, num_train=6, num_val=NUM_IMAGES)


@pytest.fixture(scope="module")
def expected(folder: Path) -> ClassificationScores:
    """The scores, image by image."""
    model, dataset = make_model().eval(), counting(folder)
    images, labels = zip(*(dataset[index] for index in range(NUM_IMAGES)), strict=True)
    with torch.no_grad():
        logits = torch.cat([model(image[None])["logits"] for image in images]).double()
    targets = torch.tensor(labels)
    ranks = (logits > logits.gather(1, targets[:, None])).sum(1)
    return ClassificationScores(
        top1=100 * (ranks == 0).double().mean().item(),
        top5=100 * (ranks < 5).double().mean().item(),
        loss=F.cross_entropy(logits, targets).item(),
        num_images=NUM_IMAGES,
        per_class=tuple(100 * (ranks[targets == label] == 0).double().mean().item() for label in range(6)),
    )


def assert_same(scores: ClassificationScores, expected: ClassificationScores) -> None:
    assert scores.num_images == expected.num_images
    assert scores.per_class == pytest.approx(expected.per_class, abs=1e-9)
    assert (scores.top1, scores.top5) == pytest.approx((expected.top1, expected.top5), abs=1e-9)
    assert scores.loss == pytest.approx(expected.loss, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_image_once(folder: Path, expected: ClassificationScores, batch_size: int) -> None:
    dataset, done = counting(folder), []
    scores = evaluate(make_model(), dataset, batch_size=batch_size, progress=done.append)
    assert_same(scores, expected)
    assert 0 < scores.top5 < 100  # six classes, so that this is told apart from top-1 and from everything
    assert sorted(dataset.read) == list(range(NUM_IMAGES))
    assert sum(done) == NUM_IMAGES


def test_workers(folder: Path, expected: ClassificationScores) -> None:
    assert_same(evaluate(make_model(), counting(folder), batch_size=4, num_workers=2), expected)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(folder: Path, training: bool) -> None:
    model, dataset = make_model().train(training), counting(folder)
    evaluate(model, dataset)
    assert model.training is training
    assert all(module.training is training for module in model.modules())
    dataset.samples = (("nothing.png", 0),)
    with pytest.raises(ValueError, match=r"nothing\.png"):
        evaluate(model, dataset)
    assert model.training is training


def test_autocast(folder: Path, expected: ClassificationScores) -> None:
    scores = evaluate(make_model(), counting(folder), autocast=torch.bfloat16)
    assert scores.num_images == NUM_IMAGES
    assert scores.loss == pytest.approx(expected.loss, rel=0.1)
    assert scores.loss != pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.filterwarnings("ignore::piip.images.ImageWarning")
@pytest.mark.parametrize("options", [{}, {"batch_size": 3}, {"batch_size": 4, "num_workers": 1}])
def test_images_that_cannot_be_read_are_left_out_if_that_is_wanted(
    folder: Path, tmp_path: Path, options: dict[str, int]
) -> None:
    damaged, rest, done = counting(folder), counting(folder), []
    samples = list(damaged.samples)
    for index in (0, 3, 4, 5, 12):
        samples[index] = (str(tmp_path / f"{index}.png"), samples[index][1])
    damaged.samples = tuple(samples)
    rest.samples = tuple(sample for sample in samples if Path(sample[0]).exists())
    scores = evaluate(make_model(), damaged, skip_unreadable=True, progress=done.append, **options)
    assert_same(scores, evaluate(make_model(), rest))
    assert (scores.num_images, sum(done)) == (NUM_IMAGES - 5, NUM_IMAGES)
    with pytest.raises(ImageError, match=r"0\.png': No such file"):
        evaluate(make_model(), damaged, **options)
    damaged.samples = samples[3:5]
    with pytest.raises(ImageError, match="none of the 2 images to evaluate on can be read"):
        evaluate(make_model(), damaged, skip_unreadable=True)


def test_refusals(folder: Path) -> None:
    model, dataset = make_model(), counting(folder)
    for options, message in (
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers: must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(model, dataset, **options)
    features = replace(model.config, head=MergedHeadConfig(num_classes=0)).build()
    with pytest.raises(ValueError, match=r"head\.num_classes: 0"):
        evaluate(features, dataset)
    fewer = replace(model.config, head=SeparateHeadsConfig(num_classes=5)).build()
    with pytest.raises(ValueError, match="dataset: 6 classes, but the model knows 5"):
        evaluate(fewer, dataset)


def _one_of_two(rank: int, folder: Path, results: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{results}/rendezvous", rank=rank, world_size=2)
    dataset = counting(folder)
    scores = evaluate(make_model(), dataset, batch_size=2)
    few = counting(folder)
    few.samples = few.samples[:1]  # nothing for the second
    torch.save((asdict(scores), dataset.read, evaluate(make_model(), few).num_images), results / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes(folder: Path, expected: ClassificationScores, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_one_of_two, (folder, tmp_path), nprocs=2)
    all_scores, read, few = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(2)), strict=True)
    assert sorted(itertools.chain(*read)) == list(range(NUM_IMAGES))
    assert sorted(map(len, read)) == [6, 7]
    assert all_scores[0] == all_scores[1]
    assert_same(ClassificationScores(**all_scores[0]), expected)
    assert few == (1, 1)
