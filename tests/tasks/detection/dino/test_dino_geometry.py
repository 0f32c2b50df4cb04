"""Where cells are: masks, centres, positions, and the boxes that queries start from."""

import pytest
import torch
import torch.nn.functional as F

from piip.tasks.detection.dino.encoder import start_boxes
from piip.tasks.detection.dino.geometry import Geometry, locate
from piip.tasks.detection.dino.heads import inverse_sigmoid, refine
from piip.tasks.detection.dino.neck import ChannelMapper
from piip.tasks.detection.dino.positions import box_embedding, cell_embedding, sine_embedding

PADDED = (96, 128)
SHAPES = ((12, 16), (6, 8), (3, 4))
SIZES = ((90, 70), (96, 128), (33, 5))


def geometry(shapes=SHAPES, sizes=SIZES, padded=PADDED) -> Geometry:
    widths_and_heights = torch.tensor([[float(width), float(height)] for height, width in sizes])
    return locate(shapes, widths_and_heights, padded)


@pytest.mark.parametrize("shapes", [SHAPES, ((13, 17), (7, 9)), ((1, 1),)])
def test_padding_is_where_a_resized_mask_has_it(shapes) -> None:
    mask = torch.ones(len(SIZES), *PADDED)
    for image, (height, width) in enumerate(SIZES):
        mask[image, :height, :width] = 0
    expected = torch.cat([F.interpolate(mask[None], size=shape)[0].bool().flatten(1) for shape in shapes], 1)
    assert torch.equal(geometry(shapes).padding_mask, expected)


def test_centres_are_in_units_of_the_image() -> None:
    located = geometry()
    whole = located.centres[1]
    expected = torch.tensor([[0.5 / 16, 0.5 / 12], [1.5 / 16, 0.5 / 12], [3.5 / 4, 2.5 / 3]])
    torch.testing.assert_close(whole[[0, 1, -1]], expected)
    assert located.valid_ratios[1].tolist() == [[1, 1]] * 3
    assert located.valid_ratios[0, 0].tolist() == [9 / 16, 1]
    points = located.reference_points
    assert points.shape == (3, 192 + 48 + 12, 3, 2)
    torch.testing.assert_close(points[0, 1, 0], torch.tensor([1.5 / 16, 0.5 / 12]))


def test_queries_start_inside_the_image() -> None:
    located = geometry()
    boxes = start_boxes(located)
    assert boxes[located.padding_mask].isinf().all()
    inside = boxes[1].sigmoid()
    torch.testing.assert_close(inside[20, 2:], torch.tensor([0.05, 0.05]))
    torch.testing.assert_close(inside[-6, 2:], torch.tensor([0.2, 0.2]))
    torch.testing.assert_close(inside[:, :2], located.centres[1])
    tiny = start_boxes(geometry(((200, 200),), ((200, 200),), (200, 200)))
    assert tiny[0, 0].isinf().all()  # its centre is nearer to the border than a hundredth of the image


def test_embeddings_of_cells_are_those_of_their_centres() -> None:
    embedding = cell_embedding(torch.tensor([[16.0, 12.0]]), 12, 16, 32)
    assert embedding.shape == (1, 12, 16, 32)
    torch.testing.assert_close(embedding[0, 5, 7, :16], sine_embedding(torch.tensor(6 / 12), 16, 20), rtol=0, atol=1e-5)
    torch.testing.assert_close(embedding[0, 5, 7, 16:], sine_embedding(torch.tensor(8 / 16), 16, 20), rtol=0, atol=1e-5)


def test_embeddings_of_boxes_have_y_first() -> None:
    embedding = box_embedding(torch.tensor([0.1, 0.2, 0.3, 0.4]), 8)
    expected = [sine_embedding(torch.tensor(value), 8, 10_000) for value in (0.2, 0.1, 0.3, 0.4)]
    torch.testing.assert_close(embedding, torch.cat(expected))


def test_boxes_stay_where_nothing_changes_them() -> None:
    boxes = torch.tensor([0.0, 0.001, 0.5, 1.0])
    refined = refine(boxes, torch.zeros(4))
    torch.testing.assert_close(refined, boxes, rtol=0, atol=1e-3)
    assert inverse_sigmoid(torch.tensor([-1.0, 2.0])).isfinite().all()


def test_maps_beyond_those_of_the_backbone() -> None:
    neck = ChannelMapper((8, 16), 32, 4)
    maps = neck([torch.ones(1, 8, 12, 16), torch.ones(1, 16, 6, 7)])
    assert [tuple(one.shape) for one in maps] == [(1, 32, 12, 16), (1, 32, 6, 7), (1, 32, 3, 4), (1, 32, 2, 2)]
