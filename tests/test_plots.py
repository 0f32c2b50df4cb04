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
        legend = (found[:, 1] < 130) & (found[:, 0] < 200)
        places.append(found[~legend].mean(0))
    rows, columns = np.array(places).T
    assert rows[0] > rows[1] > rows[2]
    assert columns[1] - columns[0] == pytest.approx(columns[2] - columns[1], abs=2)  # as the axis is logarithmic


def test_a_single_point_and_small_numbers() -> None:
    assert plot_points([point(0.003, 40)], x_title="x", y_title="y").size == (1154, 766)


def test_nothing_to_see_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a bar with a positive value, got 0 bars"):
        plot_bars("t", [])
    with pytest.raises(ValueError, match="needs points, with positive x"):
        plot_points([point(0, 1)], x_title="x", y_title="y")
    with pytest.raises(ValueError, match="got 0 points"):
        plot_points([], x_title="x", y_title="y")
