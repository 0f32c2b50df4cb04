"""Configurations to JSON and back."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from piip import (
    BackboneConfig,
    ClassificationConfig,
    InteractionConfig,
    LinearMergingConfig,
    MergedHeadConfig,
    PreprocessConfig,
    PyramidConfig,
    SeparateHeadsConfig,
    UperNetConfig,
    ViTConfig,
)
from piip.config import ConfigError, check_fields, from_dict, load_config, nearest, save_config, to_dict
from piip.shapes import ShapesConfig
from piip.tasks.classification.data import AugmentationConfig
from piip.tasks.classification.mixing import MixingConfig
from tiny_detector import tiny_detector
from tiny_models import tiny_pyramid, tiny_vit
from tiny_segmenter import tiny_segmenter


@st.composite
def vits(draw: st.DrawFn, num_stages: int) -> ViTConfig:
    stages = tuple(draw(st.lists(st.integers(0, 2), min_size=num_stages, max_size=num_stages)))
    unused = draw(st.integers(0 if sum(stages) else 1, 2))
    depth = sum(stages) + unused
    class_token = draw(st.booleans())
    window = st.none() | st.integers(1, 5)
    return ViTConfig(
        image_size=draw(st.integers(16, 80)),
        depth=depth,
        embed_dim=32 * draw(st.integers(1, 3)),
        num_heads=draw(st.sampled_from([1, 2, 4])),
        stages=stages,
        unused_blocks=unused,
        patch_size=draw(st.integers(1, 16)),
        mlp_ratio=draw(st.floats(0.5, 4)),
        qkv_bias=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        gelu=draw(st.sampled_from(["exact", "tanh"])),
        layer_scale=draw(st.none() | st.floats(0, 1)),
        window_size=None if class_token else draw(window | st.tuples(*[window] * depth)),
        window_padding=draw(st.sampled_from(["tokens", "qkv"])),
        class_token=class_token,
        class_pos_embed=draw(st.sampled_from(["none", "unused", *(["added"] if class_token else [])])),
        pos_embed_size=draw(st.none() | st.integers(16, 80)),
        drop_path=draw(st.floats(0, 0.9)),
        drop_path_rule=draw(st.sampled_from(["constant", "linear"])),
        activation_checkpointing=draw(st.booleans()),
    )


def interactions(num_branches: int) -> st.SearchStrategy[InteractionConfig]:
    ordered_pairs = [(a, b) for a in range(1, num_branches + 1) for b in range(1, num_branches + 1) if a != b]
    edges = st.lists(st.sampled_from(ordered_pairs), unique=True).map(tuple) if ordered_pairs else st.just(())
    return st.builds(
        InteractionConfig,
        edges=st.none() | edges,
        attention=st.sampled_from(["deformable", "regular"]),
        num_heads=st.sampled_from([1, 2, 4, 8]),
        num_points=st.integers(1, 4),
        value_ratio=st.sampled_from([0.5, 1.0]),
        projection=st.booleans(),
        norm=st.booleans(),
        ffn_ratio=st.none() | st.floats(0.125, 2),
        drop_path=st.floats(0, 0.9),
    )


@st.composite
def classifiers(draw: st.DrawFn) -> ClassificationConfig:
    num_branches, num_stages = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    pyramid = PyramidConfig(
        branches=tuple(draw(vits(num_stages)) for _ in range(num_branches)),
        interaction=draw(interactions(num_branches)),
    )
    chosen = st.lists(st.integers(1, num_branches), min_size=1, unique=True).map(tuple)
    class_names = draw(st.lists(st.text(max_size=5), max_size=3, unique=True).map(tuple))
    num_classes = len(class_names) or 4
    reads = ["first_patch", "mean"]
    if all(branch.class_token for branch in pyramid.branches):
        reads.append("class_token")
    separate = st.builds(
        SeparateHeadsConfig,
        num_classes=st.just(num_classes),
        reads=st.sampled_from(reads),
        branches=st.none() | chosen,
    )
    merging = st.builds(LinearMergingConfig, branches=st.none() | chosen)
    merged = st.builds(MergedHeadConfig, num_classes=st.just(num_classes), merging=merging)
    preprocess = st.builds(PreprocessConfig, input_size=st.integers(1, 999), crop_ratio=st.floats(0.1, 1))
    return ClassificationConfig(
        pyramid=pyramid, head=draw(separate | merged), preprocess=draw(preprocess), class_names=class_names
    )


@settings(max_examples=30, deadline=None)
@given(classifiers())
def test_round_trip_of_everything_that_can_be_built(config: ClassificationConfig) -> None:
    text = json.dumps(to_dict(config))
    assert from_dict(ClassificationConfig, json.loads(text)) == config
    with torch.device("meta"):
        config.build()


@pytest.fixture
def data() -> dict[str, Any]:
    return json.loads(json.dumps(to_dict(ClassificationConfig(pyramid=tiny_pyramid()))))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("", [1], r"config: expected the fields of ClassificationConfig, got \[1\]"),
        ("type", "Nothing", r"config\.type: expected 'ClassificationConfig', got 'Nothing'"),
        ("piramid", {}, r"config\.piramid: ClassificationConfig has no such field; did you mean 'pyramid'\?"),
        ("zzz", 1, r"config\.zzz: .* no such field; there are class_names, head, preprocess, pyramid"),
        ("class_names", "cat", r"config\.class_names: expected a list, got 'cat'"),
        ("class_names", [1], r"config\.class_names\[0\]: expected str, got 1"),
        ("class_names", ["cat"], r"config: class_names: 1 names, but head\.num_classes is 1000"),
        ("head", 3, r"config\.head: expected one of SeparateHeadsConfig, MergedHeadConfig, got 3"),
        ("head.type", "MergedHeadsConfig", r"config\.head\.type: .* not known here; did you mean 'MergedHeadConfig'"),
        ("head.type", ["MergedHeadConfig"], r"config\.head\.type: \['MergedHeadConfig'\] is not known here"),
        ("head.num_classes", 2.5, r"config\.head\.num_classes: expected int, got 2\.5"),
        ("head.num_classes", True, r"config\.head\.num_classes: expected int, got True"),
        ("head.reads", "cls", r"config\.head\.reads: expected one of 'first_patch', 'class_token', 'mean', got 'cls'"),
        ("preprocess.mean", [0.5, 0.5], r"config\.preprocess\.mean: expected 3 values, got 2"),
        ("preprocess.crop_ratio", None, r"config\.preprocess\.crop_ratio: expected float, got None"),
        ("preprocess.crop_ratio", 0, r"config\.preprocess: crop_ratio=0\.0"),
        ("pyramid.branches", {}, r"config\.pyramid\.branches: expected a list, got \{\}"),
        ("pyramid.branches", [], r"config\.pyramid: branches: a pyramid needs at least one branch"),
        ("pyramid.branches.1.type", "ResNet", r"config\.pyramid\.branches\[1\]\.type: 'ResNet' is not known here"),
        ("pyramid.branches.1.num_heads", 5, r"config\.pyramid\.branches\[1\]: num_heads: 5 does not divide embed_dim"),
        ("pyramid.branches.0.window_size", "7", r"config\.pyramid\.branches\[0\]\.window_size: expected int, got '7'"),
        ("pyramid.branches.0.qkv_bias", 1, r"config\.pyramid\.branches\[0\]\.qkv_bias: expected bool, got 1"),
        ("pyramid.interaction.edges", [[1, 2, 3]], r"config\.pyramid\.interaction\.edges\[0\]: expected 2 values"),
        ("pyramid.interaction.edges", [[1, 7]], r"config\.pyramid: interaction\.edges: \(1, 7\) does not join two"),
    ],
)
def test_message_names_the_field(data: dict[str, Any], place: str, value: Any, message: str) -> None:
    *way, last = place.split(".")
    inner: Any = data
    for step in way:
        inner = inner[int(step) if isinstance(inner, list) else step]
    inner[last] = value
    with pytest.raises(ConfigError, match=message):
        from_dict(ClassificationConfig, data if place else value)


def test_missing_fields_are_named(data: dict[str, Any]) -> None:
    del data["pyramid"]["branches"][1]["depth"], data["pyramid"]["branches"][1]["stages"]
    with pytest.raises(
        ConfigError, match=r"config\.pyramid\.branches\[1\]\.stages: is missing; give 'stages', 'depth'"
    ):
        from_dict(ClassificationConfig, data)


def test_types_may_be_left_out_where_there_is_no_choice(data: dict[str, Any]) -> None:
    expected = from_dict(ClassificationConfig, data)
    del data["type"], data["pyramid"]["type"], data["pyramid"]["branches"][0]["type"]
    assert from_dict(ClassificationConfig, data) == expected


def test_whole_numbers_are_read_as_floats(data: dict[str, Any]) -> None:
    data["pyramid"]["branches"][0]["mlp_ratio"] = 2
    ratio = from_dict(ClassificationConfig, data).pyramid.branches[0].mlp_ratio
    assert isinstance(ratio, float)


@dataclass(frozen=True, kw_only=True)
class Everything:
    """The other kinds of field that a configuration may have."""

    path: Path
    maybe: Path | None = None
    options: dict[str, int | str] | None = None
    kind: Literal["a", "b"] = "a"


def test_paths_and_mappings(tmp_path: Path) -> None:
    for config in (
        Everything(path=Path("x/y")),
        Everything(path=tmp_path, maybe=tmp_path, options={"n": 1, "s": "t"}, kind="b"),
    ):
        assert from_dict(Everything, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ConfigError, match=r"config\.options: expected a mapping, got 3"):
        from_dict(Everything, {"path": "x", "options": 3})
    with pytest.raises(ConfigError, match=r"config\.options\.n: expected int, got None"):
        from_dict(Everything, {"path": "x", "options": {"n": None}})
    with pytest.raises(ConfigError, match=r"config\.path: expected Path, got 3"):
        from_dict(Everything, {"path": 3})


def test_fields_are_checked() -> None:
    check_fields(Everything(path=Path()))
    with pytest.raises(ConfigError, match=r"here\.kind: expected one of 'a', 'b', got 'c'"):
        check_fields(Everything(path=Path(), kind="c"), "here.")
    with pytest.raises(ConfigError, match=r"^maybe: expected Path, got 3"):
        check_fields(Everything(path=Path(), maybe=3))


def test_lists_become_tuples_and_whole_numbers_floats() -> None:
    listed = ClassificationConfig(
        pyramid=PyramidConfig(
            branches=[tiny_vit(stages=[1, 1], class_token=False, window_size=[2, None], mlp_ratio=2), tiny_vit()],
            interaction=InteractionConfig(edges=[[1, 2], (2, 1)], num_heads=2),
        ),
        head=MergedHeadConfig(num_classes=2, merging=LinearMergingConfig(branches=[1, 2])),
        preprocess=PreprocessConfig(mean=[0, 0, 0.5]),
        class_names=["cat", "dog"],
    )
    assert listed.pyramid.branches[0].windows == (2, None)
    assert listed.pyramid.interaction.edges == ((1, 2), (2, 1))
    assert isinstance(listed.pyramid.branches[0].mlp_ratio, float)
    assert hash(listed) == hash(from_dict(ClassificationConfig, to_dict(listed)))
    assert listed.with_classes(["a"]).class_names == ("a",)
    assert SeparateHeadsConfig(branches=[1, 2]) == SeparateHeadsConfig(branches=(1, 2))
    assert AugmentationConfig(scale=[0.5, 1]) == AugmentationConfig(scale=(0.5, 1.0))
    listed.build()


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (ViTConfig, {"stages": 2}, r"^stages: expected a list, got 2"),
        (ViTConfig, {"stages": (1, "1")}, r"^stages\[1\]: expected int, got '1'"),
        (ViTConfig, {"image_size": "224"}, r"^image_size: expected int, got '224'"),
        (ViTConfig, {"norm": "batchnorm"}, r"^norm: expected one of 'layernorm', 'rmsnorm', got 'batchnorm'"),
        (InteractionConfig, {"edges": [1, 2]}, r"^interaction\.edges\[0\]: expected a list, got 1"),
        (InteractionConfig, {"attention": "linear"}, r"^interaction\.attention: expected one of"),
        (SeparateHeadsConfig, {"branches": 1}, r"^head\.branches: expected a list, got 1"),
        (MergedHeadConfig, {"merging": 1}, r"^head\.merging: expected the fields of LinearMergingConfig, got 1"),
        (PyramidConfig, {"branches": tiny_vit()}, r"^branches: expected a list, got a ViTConfig"),
        (PreprocessConfig, {"interpolation": "nearest"}, r"^preprocess\.interpolation: expected one of"),
        (PreprocessConfig, {"std": (1.0, 1.0)}, r"^preprocess\.std: expected 3 values, got 2"),
        (AugmentationConfig, {"hflip": None}, r"^augmentation\.hflip: expected float, got None"),
        (MixingConfig, {"mixup": "0.8"}, r"^mixing\.mixup: expected float, got '0\.8'"),
        (ShapesConfig, {"seed": 0.5}, r"^seed: expected int, got 0\.5"),
    ],
)
def test_values_of_another_type_are_refused(kind: type[Any], fields: dict[str, Any], message: str) -> None:
    needed = to_dict(tiny_vit()) if kind is ViTConfig else {}
    needed.pop("type", None)
    with pytest.raises(ConfigError, match=message):
        kind(**needed | fields)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (BackboneConfig, {"pyramid": tiny_vit()}, r"^pyramid: expected the fields of PyramidConfig, got a ViTConfig"),
        (BackboneConfig, {"pyramid": tiny_pyramid().build()}, r"^pyramid: expected .*, got a Pyramid$"),
        (
            BackboneConfig,
            {"merging": LinearMergingConfig()},
            r"^merging: expected the fields of ConvMergingConf",
        ),
        (UperNetConfig, {"backbone": tiny_pyramid()}, r"^backbone: expected the fields of BackboneConfig, got a Pyram"),
        (PyramidConfig, {"branches": [ViTConfig]}, r"^branches\[0\]: expected .*, got <class 'piip.*ViTConfig'>"),
        (ClassificationConfig, {"head": MergedHeadConfig}, r"^head: expected .*, got <class 'piip.*MergedHeadConfig'>"),
    ],
)
def test_other_dataclasses_are_refused(kind: type[Any], fields: dict[str, Any], message: str) -> None:
    needed = {ClassificationConfig: {"pyramid": tiny_pyramid()}, BackboneConfig: {"pyramid": tiny_pyramid()}}
    with pytest.raises(ConfigError, match=message):
        kind(**needed.get(kind, {}) | fields)


def test_what_stands_in_for_one_of_several_dataclasses_is_taken_as_it_is() -> None:
    @dataclass(frozen=True)
    class OtherBranch:
        """Another architecture, which has what a pyramid asks of a branch."""

        image_size: int = 32
        in_channels: int = 3
        channels: tuple[int, ...] = (32, 64)
        strides: tuple[int, ...] = (4, 8)
        class_token: bool = False

    assert PyramidConfig(branches=[tiny_vit(), OtherBranch()]).branches[1] == OtherBranch()


@pytest.mark.parametrize("config", [tiny_detector(), tiny_segmenter(), ClassificationConfig(pyramid=tiny_pyramid())])
@pytest.mark.parametrize("names", ["cat", None, 5, {"cat", "dog"}])
def test_what_are_no_names_of_classes(config: Any, names: Any) -> None:
    for thing in (config, config.build()):
        with pytest.raises(ConfigError, match="class_names: expected a list of names, got "):
            thing.with_classes(names)


def test_file_round_trip_and_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = ClassificationConfig(
        pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=2), class_names=("Kätzchen", "猫")
    )
    save_config(config, path)
    assert load_config(ClassificationConfig, path) == config

    path.write_text(path.read_text().replace("num_points", "num_point"))
    with pytest.raises(ConfigError, match=r"config\.json\.pyramid\.interaction\.num_point: .* mean 'num_points'"):
        load_config(ClassificationConfig, path)
    for content in (b"{", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"config\.json: cannot be read as JSON"):
            load_config(ClassificationConfig, path)
    with pytest.raises(ConfigError, match=r"nothing\.json: there is no such file"):
        load_config(ClassificationConfig, tmp_path / "nothing.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(ClassificationConfig, tmp_path)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    config = ClassificationConfig(pyramid=tiny_pyramid())
    save_config(config, path)
    before = path.read_text()

    with pytest.raises(TypeError, match="not JSON serializable"):
        save_config(Everything(path=Path(), options={"n": object()}), path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_config(replace(config, head=MergedHeadConfig()), path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Eval", "; did you mean 'eval'?"),
        ("pre", "; did you mean 'predict'?"),
        ("del", "; did you mean 'models'?"),
        ("s", "; there are eval, evaluate, models, predict"),  # a letter tells nothing
        ("eva", "; did you mean 'eval' or 'evaluate'?"),
        ("modles", "; did you mean 'models'?"),
        ("", "; there are eval, evaluate, models, predict"),
    ],
)
def test_hints_for_mistyped_names(name: str, hint: str) -> None:
    assert nearest(name, ["predict", "evaluate", "eval", "models"]) == hint
