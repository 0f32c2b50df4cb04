import os

import pytest

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
