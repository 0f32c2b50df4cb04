"""The detectors of the cases: models with the weights that the official code had, their images and gradients."""

from typing import Any

import pytest

from parity import reference_input, reference_state_dict
from piip.batches import ImageBatch
from piip.tasks.detection.detector import Detector
from piip.zoo import official


def official_detector(case: dict[str, Any]) -> Detector:
    """The model of a case, holding the weights of the case."""
    model = official.build_model(case["model"], "detection", convnexts=case.get("convnext_architectures"))
    weights = reference_state_dict(case["state_dict"], case["weight_seed"])
    for key, factor in case["weight_scaling"].items():
        weights[key] *= factor
    for key, index, shift in case.get("weight_shift", ()):
        weights[key][index] += shift
    model.load_state_dict(official.convert_state_dict(weights, model), strict=True)
    return model


def image_batch(case: dict[str, Any], *, rescale: bool) -> ImageBatch:
    """The images of a case; predictions are for the original ones, or for those that were resized."""
    sizes, originals, padded = (
        tuple((meta[key][0], meta[key][1]) for meta in case["img_metas"])
        for key in ("img_shape", "ori_shape", "pad_shape")
    )
    return ImageBatch(
        pixels=reference_input(tuple(case["input_shape"]), case["input_seed"]),
        sizes=sizes,
        original_sizes=originals if rescale else sizes,
        padded_sizes=padded,
    )


def check_gradients(model: Detector, case: dict[str, Any]) -> None:
    """Compare the norm of the gradient of each parameter, after the losses were propagated back."""
    parameters = {parameter.data_ptr(): parameter for parameter in model.parameters()}
    for key, weight in official.official_state_dict(model).items():
        parameter = parameters.get(weight.data_ptr())  # the official model has some that it never uses
        expected, gradient = case["grad_norms"][key], None if parameter is None else parameter.grad
        # In double: of the millions of small numbers in a large layer, a sum in float32 loses a thousandth.
        norm = 0.0 if gradient is None else gradient.double().norm().item()
        rel = max(1e-4, 3 * case["grad_norm_rel_noise"].get(key, 0.0))
        assert norm == pytest.approx(expected or 0.0, rel=rel, abs=1e-6), key
