"""Reading held-out images: each once, on any number of processes, and what becomes of those that cannot be read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from piip.held_out import held_out_batches
from piip.images import ImageError, ImageWarning

NUM_IMAGES = 7


class Images:
    """Numbers in place of images; some cannot be read."""

    def __init__(self, *damaged: int) -> None:
        self.damaged = damaged

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, index: int) -> int:
        if index in self.damaged:
            raise ImageError(f"cannot read image '{index}.jpg': it is cut off")
        return 10 * index


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("skip_unreadable", [False, True])
def test_every_image_once(num_workers: int, skip_unreadable: bool) -> None:
    options = {"num_workers": num_workers, "skip_unreadable": skip_unreadable}
    found = list(held_out_batches(Images(), tuple, batch_size=3, **options))
    assert found == [([0, 1, 2], (0, 10, 20)), ([3, 4, 5], (30, 40, 50)), ([6], (60,))]


@pytest.mark.filterwarnings("ignore::piip.images.ImageWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_that_cannot_be_read_are_left_out_if_that_is_wanted(num_workers: int) -> None:
    images = Images(0, 3, 4, 5)
    found = list(held_out_batches(images, tuple, batch_size=3, num_workers=num_workers, skip_unreadable=True))
    assert found == [([1, 2], (10, 20)), ([6], (60,))]
    with pytest.raises(ImageError, match=r"^cannot read image '0\.jpg': it is cut off$"):
        list(held_out_batches(images, tuple, batch_size=3, num_workers=num_workers))


def test_what_is_left_out_is_named_and_counted() -> None:
    with pytest.warns(ImageWarning) as told:
        list(held_out_batches(Images(2, 5), tuple, skip_unreadable=True))
    assert [str(warning.message) for warning in told] == [
        "cannot read image '2.jpg': it is cut off; it is left out of the evaluation",
        "cannot read image '5.jpg': it is cut off; it is left out of the evaluation",
        "scored on 5 of 7 held-out images: the others cannot be read",
    ]


@pytest.mark.filterwarnings("ignore::piip.images.ImageWarning")
def test_progress_is_told_of_images_when_they_are_done() -> None:
    events: list[object] = []
    batches: Iterator[tuple[list[int], object]] = held_out_batches(
        Images(0, 1, 3), tuple, batch_size=2, skip_unreadable=True, progress=events.append
    )
    for numbers, _ in batches:
        events.append(numbers)
    assert events == [2, [2], 2, [4, 5], 2, [6], 1]


@pytest.mark.filterwarnings("ignore::piip.images.ImageWarning")
def test_no_image_can_be_read() -> None:
    with pytest.raises(ImageError, match="none of the 7 images to evaluate on can be read; the warnings tell why"):
        list(held_out_batches(Images(*range(NUM_IMAGES)), tuple, skip_unreadable=True))


def test_refusals() -> None:
    for options, message in (
        ({"batch_size": 0}, "batch_size: must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers: must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            list(held_out_batches(Images(), tuple, **options))


def _read_on_one_of_two(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    some = list(held_out_batches(Images(1, 3, 5), tuple, batch_size=4, skip_unreadable=True))
    try:
        list(held_out_batches(Images(*range(NUM_IMAGES)), tuple, batch_size=4, skip_unreadable=True))
        told = ""
    except ImageError as error:
        told = str(error)
    torch.save((some, told), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_where_one_can_read_nothing(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_read_on_one_of_two, (tmp_path,), nprocs=2)
    (first, *told), (second, *also_told) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert (first, second) == ([([0, 2, 4, 6], (0, 20, 40, 60))], [])
    assert told == also_told == ["none of the 7 images to evaluate on can be read; the warnings tell why"]
