"""Plots: what must be seen is there."""

import numpy as np
import pytest
from PIL import Image

from piip.draw import class_colour
from piip.plots import Bar, Point, plot_bars, plot_points


def pixels_of(picture: Image.Image, group: int) -> np.ndarray:
    """Where a picture has the colour of a group: rows and columns."""
    return np.argwhere((np.asarray(picture) == class_colour(group)).all(-1))


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
    assert len(pixels_of(picture, 0)) > 200  # two discs


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
