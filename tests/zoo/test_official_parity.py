"""Our models against what the official code computed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from parity import DATA, assert_matches, load_case, reference_input, reference_state_dict
from piip.tasks.classification.model import ClassificationModel
from piip.zoo import official

# What the notes give: float32 arithmetic in another order moves tokens by less than this.
SMALL, RELEASED = 1e-5, 3e-5

FORWARD = [
    pytest.param(path.stem, marks=() if "small" in path.stem else pytest.mark.slow)
    for path in sorted(DATA.glob("cls_*.json"))
]
TRAIN = sorted(path.stem for path in DATA.glob("train_small_*.json"))


def official_model(case: dict[str, Any]) -> ClassificationModel:
    """The model of a case, holding the weights of the case."""
    model = official.build_model({"type": case["class"], **case["kwargs"]})
    weights = reference_state_dict(case["state_dict"], case["weights_seed"])
    model.load_state_dict(official.convert_state_dict(weights, model), strict=True)
    return model


@torch.inference_mode()
@pytest.mark.parametrize("name", FORWARD)
def test_forward(name: str) -> None:
    case, arrays = load_case(name)
    atol = SMALL if "small" in name else RELEASED
    model = official_model(case).eval()
    images = reference_input(tuple(case["input_shape"]), case["input_seed"])

    for stage, tokens in model.pyramid.forward_intermediates(images).items():
        for number, branch in enumerate(tokens, 1):
            if f"interaction{stage}.x{number}" in arrays:
                assert_matches(branch.map.flatten(1, 2), case, arrays, f"interaction{stage}.x{number}", atol)
            if f"interaction{stage}.cls{number}" in arrays:
                assert branch.class_token is not None
                assert_matches(branch.class_token, case, arrays, f"interaction{stage}.cls{number}", atol)
    output = model(images)
    result = output["logits"] if "logits" in output else output["features"].permute(0, 3, 1, 2)
    (last,) = [key for key in arrays if not key.startswith("interaction")]
    assert_matches(result, case, arrays, last, atol)


@pytest.mark.parametrize("name", TRAIN)
def test_training_step(name: str) -> None:
    case, arrays = load_case(name)
    model = official_model(case).train()
    images = reference_input(tuple(case["input_shape"]), case["input_seed"])
    loss = model(images, torch.tensor(case["labels"]))["cross_entropy"]
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)
    assert_matches(model.eval()(images)["logits"], case, arrays, "logits", SMALL)

    gradients = official_gradients(model)
    assert set(gradients) == set(case["grad_l2_norms"])
    for key, norm in case["grad_l2_norms"].items():
        # The absolute part is for gradients that are zero but for rounding (biases that a norm cancels).
        assert gradients[key].norm().item() == pytest.approx(norm, rel=1e-4, abs=1e-6), key
    for key in arrays:
        if key.startswith("grad."):
            assert_matches(gradients[key.removeprefix("grad.")], case, arrays, key, SMALL)


def official_gradients(model: ClassificationModel) -> dict[str, Tensor]:
    """The gradients under the official names."""
    ours = {parameter.data_ptr(): parameter.grad for parameter in model.parameters()}
    return {name: ours[weight.data_ptr()] for name, weight in official.official_state_dict(model).items()}
