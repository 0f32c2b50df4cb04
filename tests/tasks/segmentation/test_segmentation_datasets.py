"""Finding images and masks, and reading masks: good ones, and bad ones of every kind."""

import json
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mask_data import CLASSES, PALETTE, labels, save, write_masks
from piip.images import ImageError
from piip.problems import DatasetError
from piip.shapes import ShapesConfig, draw_scene
from piip.shapes import write_ade20k as write_ade20k_shapes
from piip.tasks.segmentation.ade20k import ADE20K_CLASSES, ADE20K_MASKS, ADE20K_PALETTE
from piip.tasks.segmentation.checks import Problem
from piip.tasks.segmentation.coding import MaskCoding, MaskError, MaskReader
from piip.tasks.segmentation.datasets import find_split
from piip.tasks.segmentation.files import open_split, read_class_names

CODING = MaskCoding(class_names=CLASSES, palette=PALETTE)


def write_ade20k(root: Path) -> Path:
    for split, count in (("training", 3), ("validation", 2)):
        for number in range(count):
            name = f"ADE_{split[:5]}_{number:08d}"
            values = (np.arange(24 * 32).reshape(24, 32) % 151).astype(np.uint8)
            image = np.zeros((24, 32, 3), dtype=np.uint8)
            save(root / "images" / split / f"{name}.jpg", image)
            save(root / "annotations" / split / f"{name}.png", values)
    return root


def test_ade20k_shifts_its_labels_by_one(tmp_path: Path) -> None:
    root = write_ade20k(tmp_path)
    train, val = open_split(root, "train"), open_split(root, "val")
    assert (len(train), len(val)) == (3, 2)
    assert train.masks.class_names == read_class_names(root) == ADE20K_CLASSES
    _, found = train.read(0)
    assert found.dtype == np.uint8
    assert found.reshape(-1)[:152].tolist() == [255, *range(150), 255]
    assert train.summary() == [f"{root / 'images' / 'training'}: 3 images with masks of 150 classes"]


def test_facts_of_ade20k() -> None:
    assert len(ADE20K_CLASSES) == len(ADE20K_PALETTE) == 150
    assert [ADE20K_CLASSES[label] for label in (0, 2, 7, 44, 149)] == ["wall", "sky", "bed", "chest of drawers", "flag"]
    assert [ADE20K_PALETTE[label] for label in (0, 2, 12, 149)] == [
        *((120, 120, 120), (6, 230, 230), (150, 5, 61), (92, 0, 255))
    ]
    assert ADE20K_MASKS.palette == ADE20K_PALETTE


def test_paths_are_relative_to_the_file_and_the_folder_may_be_named_in_its_place(tmp_path: Path) -> None:
    file = write_masks(tmp_path / "data")
    for data in (file, file.parent):
        folders, coding = find_split(data, "val")
        assert folders.images == file.parent / "val" / "photos"
        assert coding.class_names == CLASSES
        files = open_split(data, "train")
        assert [Path(mask).name for _, mask in files.pairs] == ["0.png", "1.png", "2.png", "3.png"]
        for number in range(4):
            image, found = files.read(number)
            assert (found == labels(number)).all()
            assert image.size == (32, 24)


@pytest.mark.parametrize("kind", ["grey", "palette", "16 bits", "RGB", "RGBA"])
def test_masks_of_every_kind(kind: str, tmp_path: Path) -> None:
    expected, coding = labels(1), CODING
    colours = np.array([*PALETTE, (0, 0, 0)], dtype=np.uint8)[np.where(expected == 255, 3, expected)]
    path = tmp_path / "mask.png"
    if kind == "grey":
        save(path, expected)
    elif kind == "palette":
        save(path, expected, palette=True)
        assert Image.open(path).mode == "P"
    elif kind == "16 bits":
        save(path, np.where(expected == 255, 40000, expected.astype(np.uint16) * 300).astype(np.uint16))
        coding = MaskCoding(class_names=CLASSES, values=(0, 300, 600), ignored=(40000,))
    else:
        alpha = np.full((*expected.shape, 1), 255, dtype=np.uint8)
        save(path, np.concatenate([colours, alpha], axis=2) if kind == "RGBA" else colours)
        coding = MaskCoding(class_names=CLASSES, palette=PALETTE, ignored_colours=((0, 0, 0),))
    found = MaskReader(coding).read(path)
    assert found.dtype == np.uint8
    assert (found == expected).all()


@given(st.permutations(CLASSES), st.lists(st.integers(0, 65535), min_size=4, max_size=4, unique=True))
def test_classes_are_told_by_their_names(names: list[str], values: list[int]) -> None:
    coding = MaskCoding(class_names=CLASSES, values=tuple(values[:3]), ignored=(values[3],))
    reader = pickle.loads(pickle.dumps(MaskReader(coding, ("other", *names))))
    found = reader._from_values(Image.fromarray(np.array([values], dtype=np.uint16)))
    assert found[0].tolist() == [1 + names.index(name) for name in CLASSES] + [255]


def test_classes_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    file = write_masks(tmp_path)
    with pytest.raises(DatasetError, match=r"dataset\.json: 2 of 3 classes are none of the 2 classes .*'sky', 'tree'"):
        open_split(file, "val", ("road", "car"))


def test_missing_masks_and_images_are_counted_and_named(tmp_path: Path) -> None:
    file = write_masks(tmp_path, num_train=5)
    (tmp_path / "train" / "labels" / "1.png").unlink()
    (tmp_path / "train" / "photos" / "2.png").unlink()
    for path in ("photos/3.png", "labels/4.png"):
        (tmp_path / "train" / path).write_bytes(b"no image")
    files = open_split(file, "train")
    assert len(files) == 1
    counts = {Problem.MISSING_MASK: 1, Problem.MISSING_IMAGE: 1, Problem.UNREADABLE: 2}
    assert files.problems.counts == counts
    told = "\n".join(files.summary())
    assert "1 images without a mask ('1.png'): left out" in told
    assert "1 masks without an image ('2.png'): left out" in told
    assert "2 images or masks whose file cannot be opened" in told
    assert "photos/3.png', " in told
    assert "labels/4.png'): left out" in told


def test_names_with_other_endings(tmp_path: Path) -> None:
    for city in ("aachen", "ulm"):
        save(tmp_path / "left" / city / f"{city}_0_left.png", np.zeros((4, 6, 3), dtype=np.uint8))
        save(tmp_path / "left" / city / f"{city}_0_right.png", np.zeros((4, 6, 3), dtype=np.uint8))
        save(tmp_path / "fine" / city / f"{city}_0_ids.png", np.zeros((4, 6), dtype=np.uint8))
        save(tmp_path / "fine" / city / f"{city}_0_colour.png", np.zeros((4, 6), dtype=np.uint8))
    folders = {"images": "left", "masks": "fine", "image_suffix": "_left.png", "mask_suffix": "_ids.png"}
    (tmp_path / "dataset.json").write_text(json.dumps({"class_names": CLASSES, "splits": {"test": folders}}))
    files = open_split(tmp_path, "test")
    assert [Path(mask).name for _, mask in files.pairs] == ["aachen_0_ids.png", "ulm_0_ids.png"]
    assert not files.problems.counts


def write_one_folder(root: Path, image_ending: str, mask_ending: str, **fields: str) -> Path:
    for number in range(2):
        save(root / "all" / f"{number}{image_ending}", np.zeros((4, 6, 3), dtype=np.uint8))
        save(root / "all" / f"{number}{mask_ending}", np.zeros((4, 6), dtype=np.uint8))
    folders = {"images": "all", "masks": "all/../all", **fields}
    (root / "dataset.json").write_text(json.dumps({"class_names": CLASSES, "splits": {"train": folders}}))
    return root


def test_images_and_masks_may_share_a_folder_but_no_file(tmp_path: Path) -> None:
    data = write_one_folder(tmp_path / "types", ".jpg", ".png")
    with pytest.raises(DatasetError, match=r"all/0\.png' is both an image and its mask, .* add an image_suffix, as"):
        open_split(data, "train")
    for root, endings, fields in (
        ("types", (".jpg", ".png"), {"image_suffix": ".jpg"}),
        ("names", (".png", "_mask.png"), {"mask_suffix": "_mask.png"}),
    ):
        files = open_split(write_one_folder(tmp_path / root, *endings, **fields), "train")
        names = [tuple(Path(path).name for path in pair) for pair in files.pairs]
        assert names == [(f"{number}{endings[0]}", f"{number}{endings[1]}") for number in range(2)]
        assert not files.problems.counts


def test_two_images_with_one_mask_are_refused(tmp_path: Path) -> None:
    file = write_masks(tmp_path)
    save(tmp_path / "val" / "photos" / "5.jpg", np.zeros((24, 32, 3), dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"photos': '5\.jpg' and '5\.png' both have the mask '.*labels/5\.png'; rem"):
        open_split(file, "val")


def test_a_mask_of_another_size_is_named_and_refused(tmp_path: Path) -> None:
    file = write_masks(tmp_path)
    save(tmp_path / "val" / "labels" / "5.png", labels(5, size=(32, 24)))
    message = r"1 masks have another size .*labels/5\.png' has 32 x 24 pixels, and its image 24 x 32"
    with pytest.raises(DatasetError, match=message):
        open_split(file, "val")


def test_a_mask_may_be_turned_as_the_photo_is_seen_or_as_it_is_stored(tmp_path: Path) -> None:
    file = write_masks(tmp_path, num_train=2)
    pixels = np.zeros((24, 32, 3), dtype=np.uint8)
    pixels[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    for number, size in ((0, (32, 24)), (1, (24, 32))):
        Image.fromarray(pixels).save(tmp_path / "train" / "photos" / f"{number}.png", exif=exif)
        save(tmp_path / "train" / "labels" / f"{number}.png", np.zeros(size, dtype=np.uint8))
    files = open_split(file, "train")
    for number, side in ((0, np.s_[:, -1]), (1, np.s_[0])):
        image, found = files.read(number)
        assert (image.height, image.width) == found.shape
        assert (np.asarray(image)[side] == 200).all()


@pytest.mark.parametrize(
    ("pixels", "coding", "message"),
    [
        (
            np.array([[0, 7, 9]], dtype=np.uint8),
            CODING,
            r"has pixels of '7', '9', which is no value of a class and not",
        ),
        (np.array([[0, 60000]], dtype=np.uint16), CODING, r"has pixels of '60000'"),
        (np.array([[0, 70000]], dtype=np.int32), CODING, r"has pixels of '70000'"),
        (np.array([[0, -1]], dtype=np.int32), CODING, r"has pixels of '-1'"),
        (np.array([[0.0, 1.0]], dtype=np.float32), CODING, r"has pixels of the kind F; save it as"),
        (np.zeros((2, 2, 2), dtype=np.uint8), CODING, r"has pixels of the kind LA; save it as"),
        (
            np.array([[(1, 2, 3)]], dtype=np.uint8),
            CODING,
            r"has pixels of the colour '\(1, 2, 3\)', which is",
        ),
        (
            np.zeros((1, 1, 3), dtype=np.uint8),
            MaskCoding(class_names=CLASSES),
            "has colours .*the dataset names none",
        ),
        (
            np.zeros((1, 1, 3), dtype=np.uint8),
            ADE20K_MASKS,
            "has colours .*the palette stands there twice",
        ),
    ],
)
def test_masks_that_hold_what_stands_for_nothing(pixels, coding, message, tmp_path: Path) -> None:
    path = tmp_path / ("mask.tif" if pixels.dtype in (np.int32, np.float32) else "mask.png")
    Image.fromarray(pixels).save(path)
    with pytest.raises(MaskError, match=rf"mask '.*mask\.\w+' {message}"):
        MaskReader(coding).read(path)


@pytest.mark.parametrize(("values", "ignored"), [((0, 1), ()), ((0, 255), ()), ((1, 0), (3,)), ((0, 7), (255,))])
def test_masks_of_one_bit(values: tuple[int, ...], ignored: tuple[int, ...], tmp_path: Path) -> None:
    expected = np.arange(24).reshape(4, 6) % 3 == 1
    Image.fromarray(expected).save(tmp_path / "mask.png")
    reader = MaskReader(MaskCoding(class_names=("a", "b"), values=values, ignored=ignored))
    labels_of_bits = np.array([values.index(0), 255 if 255 in ignored else 1 - values.index(0)])
    assert (reader.read(tmp_path / "mask.png") == labels_of_bits[expected.astype(int)]).all()


def write_png(path: Path, pixels: NDArray[np.uint8], bits: int) -> None:
    """A grey PNG of few bits, which Pillow reads but does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width = pixels.shape
    places = np.unpackbits(pixels[..., None], axis=2)[..., 8 - bits :].reshape(height, width * bits)
    rows = np.pad(np.packbits(places, axis=1), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


@pytest.mark.parametrize(
    ("bits", "message"),
    [(1, r"of 1 bit, which may .* declares both 1 and 255: save it with 8 bits"), (2, "of 2 or"), (4, "4 bits")],
)
def test_masks_of_few_bits_are_refused_where_their_values_are_doubtful(bits: int, message: str, tmp_path: Path) -> None:
    path, values = tmp_path / "mask.png", np.array([[0, 1, 1], [1, 0, 0]], dtype=np.uint8)
    write_png(path, values, bits)
    assert (np.asarray(Image.open(path)).astype(int) == values * {1: 1, 2: 85, 4: 17}[bits]).all()
    with pytest.raises(MaskError, match=message):
        MaskReader(CODING).read(path)


def save_palette(path: Path, indices: list[int], colours: list[tuple[int, int, int]]) -> None:
    image = Image.fromarray(np.array([indices], dtype=np.uint8))
    image.putpalette([part for colour in colours for part in colour] + (256 - len(colours)) * [0, 0, 0])
    image.save(path)


@pytest.mark.parametrize(
    ("order", "owner"), [([1, 0, 2], r"declared for 'sky'"), ([3, 1, 2], r"declared for ignored pixels")]
)
def test_a_palette_in_another_order_is_refused(order: list[int], owner: str, tmp_path: Path) -> None:
    path, void = tmp_path / "mask.png", (1, 2, 3)
    reader = MaskReader(MaskCoding(class_names=CLASSES, palette=PALETTE, ignored=(3,), ignored_colours=(void,)))
    colours = [(*PALETTE, void)[label] for label in order]
    save_palette(path, [0, 2, 1], colours)
    with pytest.raises(MaskError, match=rf"mask\.png' has pixels of the index 0, .* 'road', .*{owner}: save the mask"):
        reader.read(path)
    save_palette(path, [2, 2, 2], colours)  # which is as declared
    assert reader.read(path).tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("colours", [[], [(9, 9, 9), (8, 8, 8), (7, 7, 7)], [(9, 9, 9), *PALETTE[1:]]])
def test_a_palette_of_other_colours_is_read_by_its_indices(colours, tmp_path: Path) -> None:
    save_palette(tmp_path / "mask.png", [0, 1, 2, 255], colours)
    assert MaskReader(CODING).read(tmp_path / "mask.png").tolist() == [[0, 1, 2, 255]]


def test_values_that_stand_for_nothing_are_told_when_the_dataset_is_opened(tmp_path: Path) -> None:
    file = write_masks(tmp_path, ignored=[])
    with pytest.raises(DatasetError, match=r"labels/4\.png' has pixels of '255'"):
        open_split(file, "val")


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"nothing")
    for name, message in (("mask.png", "it is not an image"), ("none.png", "No such file")):
        with pytest.raises(ImageError, match=rf"{name}': {message}"):
            MaskReader(CODING).read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"dataset\.json: there is no such file"),
        ("{", r"dataset\.json: cannot be read as JSON"),
        ("[]", r"dataset\.json: expected the fields of DatasetFile"),
        ('{"splits": {}}', r"dataset\.json\.class_names: is missing"),
        ('{"class_names": ["a"], "splits": {}}', r"dataset\.json: splits: has no 'val'; expected .*\"masks\": FOLDER"),
        ('{"class_names": ["a"], "splits": {"vall": {"images": "a", "masks": "b"}}}', r"did you mean 'vall'"),
        ('{"class_names": ["a"], "splits": {"val": {"images": "a"}}}', r"splits\.val\.masks: is missing"),
        ('{"class_names": ["a"], "splits": {"val": {"images": "a", "mask": "b"}}}', r"mask: .*did you mean 'masks'"),
        ('{"class_names": ["a", "a"], "splits": {}}', r"class_names: 'a' more than once"),
        ('{"class_names": [], "splits": {}}', r"class_names: 0 classes; there must be 1 to 255"),
        ('{"class_names": ["a"], "values": [1, 2], "splits": {}}', r"values: 2 of them for 1 classes"),
        ('{"class_names": ["a"], "values": [255], "splits": {}}', r"values, ignored: '255' more than once"),
        ('{"class_names": ["a"], "ignored": [-1], "splits": {}}', r"ignored=\(-1,\) must be within 0...65535"),
        ('{"class_names": ["a"], "palette": [[0, 0, 256]], "splits": {}}', r"\(0, 0, 256\) must be red, green and"),
        ('{"class_names": ["a"], "splits": {"val": {"images": "a", "masks": "b", "mask_suffix": ""}}}', r"mask_suffix"),
        ('{"class_names": ["a"], "splits": {"val": {"images": "nowhere", "masks": "b"}}}', r"nowhere' is no folder"),
    ],
)
def test_errors_of_the_file(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        open_split(tmp_path / "dataset.json", "val")


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no images/training; name a folder in the layout of ADE20K"):
        open_split(tmp_path, "train")
    root = write_ade20k(tmp_path / "ade")
    with pytest.raises(DatasetError, match=r"has no images/test;"):
        open_split(root, "test")
    for path in (root / "annotations" / "training").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"none of its images has a mask in .*: 3 images without a mask"):
        open_split(root, "train")


def test_shapes_are_read_as_they_were_drawn(tmp_path: Path) -> None:
    scenes = ShapesConfig(num_classes=3, image_size=48, max_objects=3)
    root = write_ade20k_shapes(tmp_path / "shapes", scenes, num_train=4, num_val=2)
    files = open_split(root, "train")
    assert files.masks.class_names == ("background", "circle", "square", "triangle")
    for number in range(4):
        scene, (image, found) = draw_scene(scenes, number), files.read(number)
        assert (np.asarray(image) == scene.image).all()
        assert (found == (scene.masks * (scene.labels + 1)[:, None, None]).sum(axis=0)).all()
