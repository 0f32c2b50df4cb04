"""What the official implementation computed: cases, and the weights and inputs they were computed with.

A case stores no weights: every tensor is a pure function of its name, shape and a seed, so that the
official code (when the data were made) and ours (now) can be given the same ones.
"""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

DATA = Path(__file__).parent / "data" / "parity"

_SCALES = ("gamma_1", "gamma_2", "gamma", "ca_gamma", "cffn_gamma", "layer_scale_parameter")


def reference_tensor(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The float32 array that the tensor `name` of an official state dict holds in every case."""
    noise = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return 1.0 + 0.1 * np.abs(noise)
    if leaf == "running_mean":
        return 0.1 * noise
    if leaf in _SCALES:
        return 0.3 * noise
    if "relative_position_bias_table" in name:
        return 0.5 * noise
    if not shape:
        return np.float32(1.0) + np.float32(0.1) * noise
    if name.endswith("sampling_offsets.bias"):
        return 2.0 * noise
    if leaf == "bias" or leaf.endswith("_bias"):
        return 0.1 * noise
    if len(shape) == 1:
        return 1.0 + 0.1 * noise
    if leaf in ("pos_embed", "cls_token", "mask_token") or "embed" in leaf:
        return 0.2 * noise
    return noise / np.float32(math.sqrt(np.prod(shape[1:])))


def reference_input(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """An image batch (N, C, H, W): smooth waves and noise, zero mean and unit spread."""
    rng = np.random.default_rng([seed, 20240604])
    batch, channels, height, width = shape
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    images = np.empty(shape, dtype=np.float32)
    for image in range(batch):
        for channel in range(channels):
            fy, fx, phase = rng.uniform(1, 9), rng.uniform(1, 9), rng.uniform(0, 6.28)
            images[image, channel] = np.sin(2 * np.pi * (fy * y + fx * x) + phase)
    return torch.from_numpy(images + 0.3 * rng.standard_normal(shape, dtype=np.float32))


def load_case(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A case's description and its stored arrays (`stride` 1: whole; k: every k-th value of the flattened output)."""
    case = json.loads((DATA / f"{name}.json").read_text())
    with np.load(DATA / f"{name}.npz") as arrays:
        return case, {key: arrays[key] for key in arrays.files}


def reference_state_dict(shapes: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """An official state dict of these shapes, filled by the rule of the cases."""
    return {
        key: torch.from_numpy(np.asarray(reference_tensor(key, tuple(shape), seed))) for key, shape in shapes.items()
    }


def reference_operand(description: dict[str, Any]) -> torch.Tensor:
    """An input or cotangent of an `op_` case."""
    array = reference_tensor(description["tensor"], tuple(description["shape"]), description["seed"])
    return torch.from_numpy(description["scale"] * array)


def assert_matches(
    output: torch.Tensor, case: dict[str, Any], arrays: dict[str, np.ndarray], name: str, atol: float
) -> None:
    """Compare one output with the stored one, at the stored sampling, and its statistics over the whole."""
    expected = case["outputs"][name]
    assert list(output.shape) == expected["shape"], name
    flat = output.detach().reshape(-1)
    stored = torch.from_numpy(arrays[name]).reshape(-1)
    difference = (flat[:: expected["stride"]] - stored).abs().max().item()
    assert difference <= atol, f"{name}: largest difference {difference:.2e}, allowed {atol:.0e}"
    assert abs(flat.double().mean().item() - expected["mean"]) <= atol
    assert abs(flat.double().abs().max().item() - expected["absmax"]) <= atol
