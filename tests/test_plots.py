"""Plots: what must be seen is there."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from piip.plots import PALETTE, Bar, Point, plot_bars, plot_points


def pixels_of(picture: Image.Image, group: int) -> np.ndarray:
    """Where a picture has the colour of a group: rows and columns."""
    return np.argwhere((np.asarray(picture) == PALETTE[group]).all(-1))


# Machado, Oliveira and Fernandes (2009): what people without red or green cones see, in linear RGB.
VISION = {
    "usual": np.eye(3),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


@pytest.mark.parametrize("vision", list(VISION))
def test_colours_differ_from_one_another_and_from_white_for_everyone(vision: str) -> None:
    encoded = np.array([*PALETTE, (255, 255, 255)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    *colours, white = rgb2lab(seen)
    assert min(np.linalg.norm(one - other) for one, other in combinations(colours, 2)) > 15
    assert min(np.linalg.norm(one - white) for one in colours) > 35
    assert min(1.05 / (linear[:-1] @ (0.2126, 0.7152, 0.0722) + 0.05)) > 2  # the contrast of WCAG


def bar(value: float, name: str = "a model") -> Bar:
    return Bar(name=name, value=value, low=0.9 * value, high=1.1 * value, text=f"{value} ms")


def test_bars_are_as_long_as_their_values() -> None:
    picture = plot_bars("milliseconds", [bar(10), bar(20), bar(5)])
    columns = [pixels_of(picture, number)[:, 1] for number in range(3)]
    assert len({own.min() for own in columns}) == 1
    lengths = [np.ptp(own) for own in columns]
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.02)
    assert lengths[2] == pytest.approx(lengths[0] / 2, rel=0.02)
    rows = [pixels_of(picture, number)[:, 0] for number in range(3)]
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()


def test_a_long_name_and_title_have_room() -> None:
    narrow, wide = plot_bars("t", [bar(1)]), plot_bars("t", [bar(1, name="a model of a long name")])
    assert pixels_of(wide, 0)[:, 1].min() > pixels_of(narrow, 0)[:, 1].min() + 50
    assert plot_bars("a title " * 20, [bar(1)]).width > narrow.width


def point(x: float, y: float, group: str = "one") -> Point:
    return Point(x=x, y=y, name="", group=group)


def test_points_lie_in_the_order_of_their_values() -> None:
    picture = plot_points([point(10, 1), point(100, 2, "two"), point(1000, 3, "three")], x_title="x", y_title="y")
    places = []
    for group in range(3):
        found = pixels_of(picture, group)
        places.append(found[found[:, 1] < 1090].mean(0))  # not in the legend
    rows, columns = np.array(places).T
    assert rows[0] > rows[1] > rows[2]
    assert columns[1] - columns[0] == pytest.approx(columns[2] - columns[1], abs=2)  # as the axis is logarithmic


def test_a_single_point_and_small_numbers() -> None:
    picture = plot_points([point(0.003, 40)], x_title="x", y_title="y")
    assert picture.height == 766
    assert len(pixels_of(picture, 0)) > 2 * 90  # two discs: the point, and in the legend


def test_many_groups_differ_by_colour_or_shape_in_the_legend() -> None:
    points = [point(10.0 ** (number / 4 + 1), number, str(number)) for number in range(24)]
    legend = np.asarray(plot_points(points, x_title="x", y_title="y"))[:, 1125:1150]
    signs = [legend[54 + 32 * number : 86 + 32 * number] for number in range(24)]
    for number, sign in enumerate(signs):
        assert sign.shape == (32, 25, 3)  # it is within the picture
        assert (sign == PALETTE[number % len(PALETTE)]).all(-1).any()
    assert len({sign.tobytes() for sign in signs}) == 24


def test_only_the_best_of_a_group_are_joined() -> None:
    points = [point(10, 1), point(20, 3), point(30, 2), point(40, 4)]
    whole = len(pixels_of(plot_points(points, x_title="x", y_title="y"), 0))
    apart = [Point(x=one.x, y=one.y, name="", group=str(one.x)) for one in points]
    alone = len(pixels_of(plot_points(apart, x_title="x", y_title="y"), 0))
    best = [*points[:2], points[3]]
    without = len(pixels_of(plot_points([*best, point(30, 2, "other")], x_title="x", y_title="y"), 0))
    assert alone < without < whole
    assert whole - without < 200  # the disc of the third, and no line to it


def test_names_do_not_cover_each_other() -> None:
    crowd = [Point(x=100 + step / 10, y=1, name="a name that is long", group="one") for step in range(5)]
    far = [point(1, 0), point(10_000, 2)]

    def ink(points: list[Point]) -> int:
        return int((np.asarray(plot_points(points, x_title="x", y_title="y")) == (28, 31, 36)).all(-1).sum())

    nothing, one, all_of_them = ink(far), ink([crowd[0], *far]), ink([*crowd, *far])
    assert nothing < one
    assert all_of_them - nothing <= 3 * (one - nothing)


def test_nothing_to_see_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a bar with a positive value, got 0 bars"):
        plot_bars("t", [])
    with pytest.raises(ValueError, match="needs points, with positive x"):
        plot_points([point(0, 1)], x_title="x", y_title="y")
    with pytest.raises(ValueError, match="got 0 points"):
        plot_points([], x_title="x", y_title="y")
