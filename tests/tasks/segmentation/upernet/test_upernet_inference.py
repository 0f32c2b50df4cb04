"""From logits to labels: windows that cover an image, and maps that are resized a few classes at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from piip.config import from_dict, to_dict
from piip.tasks.segmentation.upernet import SlidingInference, WholeInference, inference
from piip.tasks.segmentation.upernet.inference import label_map, rescale
from tiny_models import images

CLASSES = 4
SIDES = st.integers(1, 40)


class Recorder:
    """A network whose logits at a pixel are numbers of that pixel alone; keeps the windows that it was given."""

    def __init__(self, scale: int = 1) -> None:
        self.windows: list[tuple[int, ...]] = []
        self.scale = scale

    def __call__(self, pixels: Tensor) -> Tensor:
        self.windows.append(tuple(pixels.shape))
        logits = torch.cat((pixels, -pixels[:, :1]), 1)
        return logits if self.scale == 1 else torch.nn.functional.avg_pool2d(logits, self.scale)


def official_windows(height: int, width: int, crop: int, stride: int) -> list[tuple[int, int, int, int]]:
    """By the formula of the notes: top, left, bottom, right."""
    windows = []
    for row in range(max(height - crop + stride - 1, 0) // stride + 1):
        for column in range(max(width - crop + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            windows.append((max(bottom - crop, 0), max(right - crop, 0), bottom, right))
    return windows


@settings(max_examples=50, deadline=None)
@given(height=SIDES, width=SIDES, crop=st.integers(1, 24), stride=st.integers(1, 24), batch_size=st.integers(1, 5))
def test_windows_are_the_official_ones_and_their_average_is_the_whole(
    height: int, width: int, crop: int, stride: int, batch_size: int
) -> None:
    stride = min(crop, stride)
    network, pixels = Recorder(), images(1, 3, height, width)
    sliding = SlidingInference(crop=(crop, crop), stride=(stride, stride), batch_size=batch_size)
    logits = sliding.run(network, pixels, CLASSES)
    torch.testing.assert_close(logits, WholeInference().run(Recorder(), pixels, CLASSES))
    expected = official_windows(height, width, crop, stride)
    assert sum(shape[0] for shape in network.windows) == len(expected)
    assert len(network.windows) == math.ceil(len(expected) / batch_size)
    sizes = {(bottom - top, right - left) for top, left, bottom, right in expected}
    assert sizes == {shape[2:] for shape in network.windows}


def test_overlaps_are_averaged() -> None:
    """The network says of each window how bright it is, so that windows disagree."""

    def network(pixels: Tensor) -> Tensor:
        return pixels.mean((1, 2, 3), keepdim=True).expand(-1, 2, 2, 2)

    pixels = images(1, 3, 9, 13)
    logits = SlidingInference(crop=(4, 4), stride=(3, 2)).run(network, pixels, 2)
    total, count = torch.zeros(9, 13), torch.zeros(9, 13)
    for top in (0, 3, 5):
        for left in (0, 2, 4, 6, 8, 9):
            window = (slice(top, top + 4), slice(left, left + 4))
            total[window] += pixels[0][:, *window].mean()
            count[window] += 1
    torch.testing.assert_close(logits, (total / count).expand(2, -1, -1))


@settings(max_examples=50, deadline=None)
@given(
    grid=st.tuples(SIDES, SIDES),
    padded=st.tuples(SIDES, SIDES),
    original=st.tuples(SIDES, SIDES),
    num_classes=st.integers(1, 9),
    chunk=st.integers(1, 8000),
    data=st.data(),
)
def test_a_few_classes_at_a_time_give_exactly_the_labels_of_all_at_once(
    grid: tuple[int, int],
    padded: tuple[int, int],
    original: tuple[int, int],
    num_classes: int,
    chunk: int,
    data: st.DataObject,
) -> None:
    size = (data.draw(st.integers(1, padded[0])), data.draw(st.integers(1, padded[1])))
    logits = images(num_classes, *grid)
    logits[num_classes // 2] = logits[0]  # a tie everywhere, which the first wins
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "_CHUNK", chunk)
        labels = label_map(logits, padded, size, original)
    assert (labels.shape, labels.dtype) == (original, torch.int64)
    assert torch.equal(labels, rescale(logits, padded, size, original).argmax(0))


def test_memory_does_not_grow_with_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No map of more numbers than a chunk is made, but for one class."""
    made = []
    resize = inference.resize_map
    monkeypatch.setattr(inference, "_CHUNK", 3 * 60 * 80)
    monkeypatch.setattr(inference, "resize_map", lambda x, *size: made.append(resize(x, *size)) or made[-1])
    label_map(images(20, 6, 8), (30, 40), (30, 36), (60, 80))
    assert {one.numel() for one in made} == {3 * 30 * 40, 2 * 30 * 40, 3 * 60 * 80, 2 * 60 * 80}


def test_logits_are_cut_before_they_are_resized_to_the_original() -> None:
    logits = torch.zeros(2, 4, 8)
    logits[1, :, 4:] = 1  # the padding on the right is all of class 1
    assert not label_map(logits, (8, 16), (8, 7), (24, 21)).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": (64, 64), "stride": (64, 65)}, r"inference\.stride: expected from 1 to the crop's \(64, 64\)"),
        ({"crop": (0, 64), "stride": (0, 64)}, r"inference\.stride: expected from 1"),
        ({"batch_size": 0}, r"inference\.batch_size: expected at least 1, got 0"),
        ({"crop": 512}, r"inference\.crop: expected"),
    ],
)
def test_impossible_windows(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlidingInference(**settings)


def test_configuration_comes_back() -> None:
    sliding = SlidingInference(crop=(64, 96), stride=(32, 96))
    assert from_dict(SlidingInference, to_dict(sliding)) == sliding
