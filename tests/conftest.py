import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import Hub, serve

# pytest-xdist starts a process for each core: more threads than that wait for one another most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

    import torch

    torch.set_num_threads(1)


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps its settings for the whole process; here they last for one test."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, and an empty cache, as HF_ENDPOINT and HF_HOME would choose them before the start."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _cache_assets

    with serve() as server:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # which the server does not speak
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(tmp_path / "hf" / "assets"))
        yield server
