"""Processes that load data, and the signals they get."""

import os
import signal
import subprocess
import time

import pytest
from torch.utils.data import DataLoader

from piip.workers import init_worker


class Pids:
    def __len__(self):
        return 100

    def __getitem__(self, index):
        return os.getpid()


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_worker_outlives_all_signals_but_that_of_its_parent(start_method, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # or a process that is spawned has threads before it is prepared
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    loader = DataLoader(
        Pids(), batch_size=None, num_workers=1, worker_init_fn=init_worker, multiprocessing_context=start_method
    )
    batches = iter(loader)
    pid = next(batches)
    for name in ("TERM", "INT", "TERM"):
        subprocess.run(["kill", f"-{name}", str(pid)], check=True)
    time.sleep(0.5)
    assert [next(batches) for _ in range(10)] == [pid] * 10
    (worker,) = batches._workers
    os.kill(pid, signal.SIGTERM)
    worker.join(10)
    assert worker.exitcode == 0
