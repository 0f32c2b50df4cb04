import numpy as np
import pytest
from PIL import Image

from piip.draw import (
    DrawnClass,
    DrawnObject,
    annotate_classification,
    annotate_detection,
    annotate_segmentation,
    class_colour,
    contact_sheet,
)

PREDICTIONS = [("golden retriever", 0.9), ("cat", 0.1)]


def test_caption_goes_below_the_untouched_image():
    noise = np.random.default_rng(0).integers(256, size=(400, 500, 3), dtype=np.uint8)
    picture = np.asarray(annotate_classification(Image.fromarray(noise), PREDICTIONS))
    assert (picture[:400] == noise).all()
    assert picture.shape[0] > 400
    assert picture.shape[1] == 500
    lines = picture[400:].reshape(2, -1, 500, 3)
    covered = (lines == (203, 222, 246)).all(axis=3).any(axis=1).sum(axis=1)  # the score bars are as long as the scores
    assert covered == pytest.approx([450, 50], abs=3)
    assert (lines.sum(axis=3) < 200).any(axis=(1, 2)).all()  # dark text on each line


@pytest.mark.parametrize("size", [(32, 32), (1, 3000), (3000, 1), (20, 900), (4000, 3000)])
def test_any_size_gives_a_picture_that_text_fits_on(size):
    picture = annotate_classification(Image.new("RGB", size), PREDICTIONS)
    assert picture.width >= 320
    assert picture.width * picture.height < 2 * max(size[0], 320) * max(size[1], 320)


def test_text_grows_with_the_image():
    small, large = (annotate_classification(Image.new("RGB", (side, side)), PREDICTIONS) for side in (400, 4000))
    assert (large.height - 4000) > 5 * (small.height - 400)


def test_long_names_are_cut_and_no_predictions_are_fine():
    picture = annotate_classification(Image.new("RGB", (320, 320)), [("x" * 500, 0.5), ("", 0.0)])
    assert picture.width == 320
    assert annotate_classification(Image.new("RGB", (320, 320)), []).size == (320, 320)


def test_contact_sheet_places_images_row_by_row():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = contact_sheet([Image.new("RGB", (30, 30), colour) for colour in colours], columns=2, cell_size=96)
    gap, pitch = 4, 100
    assert sheet.size == (2 * pitch + gap, 2 * pitch + gap)
    centres = [(gap + 48, gap + 48), (gap + pitch + 48, gap + 48), (gap + 48, gap + pitch + 48)]
    assert [sheet.getpixel(centre) for centre in centres] == colours
    assert sheet.getpixel((gap + pitch + 48, gap + pitch + 48)) == (255, 255, 255)


def test_contact_sheet_keeps_proportions_and_writes_titles():
    wide = Image.new("RGB", (200, 50), "red")
    plain = contact_sheet([wide], columns=3, cell_size=96)
    titled = contact_sheet([wide], columns=3, cell_size=96, titles=["a title that is much too long for its cell"])
    red = (np.asarray(plain) == (255, 0, 0)).all(axis=2)
    assert red.sum() == 96 * 24
    assert titled.height > plain.height
    assert titled.width == plain.width


@pytest.mark.parametrize(
    ("count", "columns", "titles", "message"), [(0, 1, [], "0 images"), (1, 0, [], "columns=0"), (2, 1, ["a"], "got 1")]
)
def test_impossible_sheets_are_refused(count, columns, titles, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet([Image.new("RGB", (4, 4))] * count, columns, titles)


def drawn(box, label=0, name="cat", score=0.9):
    return DrawnObject(box=box, label=label, name=name, score=score)


def colour_of(picture, label):
    return (np.asarray(picture) == class_colour(label)).all(axis=2)


@pytest.mark.parametrize("background", ["black", "white", "red", "grey"])
def test_frames_stand_out_and_keep_to_their_box(background):
    image = Image.new("RGB", (600, 400), background)
    picture = annotate_detection(image, [drawn((100, 150, 300, 350), label=1)])
    assert picture.size == image.size
    rows, columns = np.where(colour_of(picture, 1))
    assert (columns.min(), columns.max(), rows.max()) == pytest.approx((100, 300, 350), abs=3)
    assert 120 < rows.min() < 150  # the name is above
    changed = (np.asarray(picture) != np.asarray(image)).any(axis=2)
    assert not changed[160:340, 110:290].any()
    assert not changed[:, 310:].any()
    frame = np.asarray(picture)[250, 80:120].astype(int)
    assert np.abs(np.diff(frame, axis=0)).sum(axis=1).max() > 150


@pytest.mark.parametrize("size", [(16, 16), (1, 900), (900, 1), (2000, 1500)])
def test_any_image_and_any_box(size):
    width, height = size
    boxes = [(0, 0, width, height), (-50, -50, 2 * width, 2 * height), (width, height, width, height), (0, 0, 0, 0)]
    picture = annotate_detection(Image.new("RGB", size), [drawn(box, name="x" * 300) for box in boxes])
    assert max(picture.size) == max(320, *size)
    assert annotate_detection(Image.new("RGB", size), []).size == picture.size


def test_masks_tint_their_pixels_and_the_best_is_on_top():
    image = Image.new("RGB", (400, 400), (100, 100, 100))
    left, middle = np.zeros((400, 400), dtype=bool), np.zeros((400, 400), dtype=bool)
    left[100:300, 50:250] = True
    middle[100:300, 150:350] = True
    objects = [drawn((50, 100, 250, 300), label=0), drawn((150, 100, 350, 300), label=1)]
    pixels = np.asarray(annotate_detection(image, objects, iter([left, middle]))).astype(int)
    for x, label in ((100, 0), (200, 0), (300, 1)):
        assert pixels[200, x].tolist() == pytest.approx([50 + value / 2 for value in class_colour(label)], abs=1)
    assert pixels[50, 200].tolist() == [100, 100, 100]


def test_names_avoid_one_another():
    objects = [drawn((100, 100, 260, 300), label=label, name=f"object {label}", score=None) for label in range(4)]
    picture = annotate_detection(Image.new("RGB", (400, 400)), objects)
    text_height = 12
    for label in range(4):
        assert colour_of(picture, label).sum() > 40 * text_height


def test_colours_of_classes_are_stable_and_different():
    assert class_colour(0) == (255, 38, 38)
    colours = {class_colour(label) for label in range(100)}
    assert len(colours) == 100
    neighbours = np.array([class_colour(label) for label in range(20)])
    assert np.linalg.norm(np.diff(neighbours, axis=0), axis=1).min() > 80


CLASSES = [
    DrawnClass(label=0, name="sky", colour=(0, 0, 200), share=0.75),
    DrawnClass(label=7, name="tree", colour=(0, 200, 0), share=0.25),
]


def test_classes_tint_their_pixels_and_the_legend_tells_their_colours():
    label_map = np.zeros((400, 500), dtype=np.uint8)
    label_map[:, 300:] = 7
    label_map[:100, 400:] = 255
    picture = np.asarray(annotate_segmentation(Image.new("RGB", (500, 400), (100, 100, 100)), label_map, CLASSES))
    assert picture.shape[1] == 500
    assert picture[200, 100].tolist() == [50, 50, 150]
    assert picture[200, 350].tolist() == [50, 150, 50]
    assert picture[200, 300].tolist() == [0, 200, 0]  # where classes meet
    assert picture[50, 450].tolist() == [100, 100, 100]  # of no class that is drawn
    legend = picture[400:]
    for item in CLASSES:
        assert (legend == item.colour).all(axis=2).sum() > 100
    assert (legend.sum(axis=2) < 200).any()  # dark text


@pytest.mark.parametrize("size", [(32, 32), (1, 3000), (3000, 1), (20, 900), (4000, 3000)])
def test_any_image_and_any_number_of_classes(size):
    label_map = np.zeros(size[::-1], dtype=np.uint8)
    classes = [DrawnClass(label=n, name=f"class {n}" * 9, colour=(n, n, n), share=0.01) for n in range(150)]
    for count in (0, 1, 150):
        picture = annotate_segmentation(Image.new("RGB", size), label_map, classes[:count])
        assert picture.width == max(320, round(size[0] * max(1, 320 / max(size))))
        assert (picture.height > max(size[1], 320 if size[0] == size[1] else 0)) == (count > 0)
