"""Our UperNet against what the official code computed: whole and sliding inference, losses, gradients."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from parity import DATA, assert_matches, load_case, reference_input, reference_state_dict
from piip.batches import ImageBatch, Size
from piip.tasks.segmentation.upernet.inference import Inference, WholeInference, rescale
from piip.tasks.segmentation.upernet.model import UperNet
from piip.zoo import official

INFERENCE = sorted(path.stem for path in DATA.glob("upernet_infer_*.json"))
TRAINING = sorted(path.stem for path in DATA.glob("upernet_train_*.json"))

# What float32 arithmetic in another order does, by the notes; two to four times what noise of 1e-6 on the image does.
MAPS, LOGITS, PROBABILITIES = 1e-5, 1e-5, 1e-6


def official_segmenter(case: dict[str, Any]) -> UperNet:
    """The model of a case, holding the weights of the case."""
    model = official.build_model(case["model"], "segmentation")
    assert isinstance(model, UperNet)
    counters = {key for key in case["state_dict"] if key.endswith("num_batches_tracked")}
    weights = reference_state_dict(
        {key: shape for key, shape in case["state_dict"].items() if key not in counters}, case["weight_seed"]
    )
    weights |= {key: torch.tensor(0) for key in counters}
    model.load_state_dict(official.convert_state_dict(weights, model), strict=True)
    return model


def image_batch(part: dict[str, Any]) -> ImageBatch:
    sizes, originals = (
        tuple((meta[key][0], meta[key][1]) for meta in part["img_metas"]) for key in ("img_shape", "ori_shape")
    )
    return ImageBatch(reference_input(tuple(part["input_shape"]), part["input_seed"]), sizes, originals)


def rescaled(logits: Tensor, images: ImageBatch) -> Tensor:
    padded: Size = (images.pixels.shape[-2], images.pixels.shape[-1])
    per_image = zip(logits, images.sizes, images.original_sizes, strict=True)
    return torch.stack([rescale(own, padded, size, original) for own, size, original in per_image])


def check_labels(model: UperNet, images: ImageBatch, inference: Inference, expected: np.ndarray) -> None:
    model.config = replace(model.config, inference=inference)
    labels = torch.stack(model(images))
    assert labels.dtype == torch.int64
    assert np.array_equal(labels.numpy(), expected)  # noise on the image moves no label


@torch.inference_mode()
@pytest.mark.parametrize("name", INFERENCE)
def test_inference(name: str) -> None:
    case, arrays = load_case(name)
    model, sliding = official_segmenter(case).eval(), official.model_config(case["model"], "segmentation").inference
    assert (sliding.crop, sliding.stride) == ((case["slide"]["crop"],) * 2, (case["slide"]["stride"],) * 2)

    images = image_batch(case["whole"])
    features = model.backbone(images.pixels)
    for level, feature in enumerate(features):
        assert_matches(feature, case, arrays, f"backbone.{level}", MAPS)
    assert model.auxiliary_head is not None
    assert_matches(model.decode_head.fuse(features), case, arrays, "decode_features", LOGITS)
    assert_matches(model.decode_head(features), case, arrays, "decode_logits", LOGITS)
    assert_matches(model.auxiliary_head(features[2]), case, arrays, "aux_logits", LOGITS)
    whole = torch.stack([WholeInference().run(model.logits, one[None], 150) for one in images.pixels])
    assert_matches(rescaled(whole, images), case, arrays, "whole_logits_rescaled", LOGITS)
    check_labels(model, images, WholeInference(), arrays["whole_pred"])

    images = image_batch(case["slide"])
    logits = sliding.run(model.logits, images.pixels, 150)[None]
    assert_matches(logits, case, arrays, "slide_logits", LOGITS)
    at_original = rescaled(logits, images)
    assert_matches(at_original, case, arrays, "slide_logits_rescaled", LOGITS)
    assert_matches(at_original.softmax(1).flip(-1), case, arrays, "slide_prob_flip", PROBABILITIES)
    check_labels(model, images, sliding, arrays["slide_pred"])


@pytest.mark.parametrize("name", TRAINING)
def test_training_step(name: str) -> None:
    case, arrays = load_case(name)
    model, images = official_segmenter(case).train(), image_batch(case)
    labels = torch.from_numpy(arrays["gt_semantic_seg"])[:, 0].long()
    logits: dict[str, Tensor] = {}
    assert model.auxiliary_head is not None
    for head, key in ((model.decode_head, "decode"), (model.auxiliary_head, "aux")):
        head.register_forward_hook(lambda _head, _args, out, key=key: logits.update({key: out}))

    losses = model(images, labels)

    for key in ("decode", "aux"):
        assert_matches(logits[key], case, arrays, f"{key}_logits_train_mode", LOGITS)
    assert losses["loss_decode"].item() == pytest.approx(case["losses"]["decode.loss_ce"], rel=2e-6)
    assert losses["loss_auxiliary"].item() == pytest.approx(case["losses"]["aux.loss_ce"], rel=2e-6)
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == pytest.approx(case["total_loss"], rel=1e-6)
    exported = official.official_state_dict(model)
    for key, (mean, norm) in case["running_stats"].items():
        buffer = exported[key].double()
        assert buffer.mean().item() == pytest.approx(mean, rel=1e-5, abs=1e-6), key
        assert buffer.norm().item() == pytest.approx(norm, rel=1e-5), key
    total.backward()
    check_gradients(model, case)


def check_gradients(model: UperNet, case: dict[str, Any]) -> None:
    parameters = {parameter.data_ptr(): parameter for parameter in model.parameters()}
    exported = official.official_state_dict(model)
    found = {key: parameters[own.data_ptr()] for key, own in exported.items() if own.data_ptr() in parameters}
    assert set(found) == set(case["grad_norms"])
    for key, parameter in found.items():
        assert parameter.grad is not None
        # In double: of the millions of small numbers in a large layer, a sum in float32 loses a thousandth.
        norm, expected = parameter.grad.double().norm().item(), case["grad_norms"][key]
        rel = max(1e-4, 3 * case["grad_norm_rel_noise"].get(key, 0.0))
        assert norm == pytest.approx(expected, rel=rel, abs=1e-6), key
