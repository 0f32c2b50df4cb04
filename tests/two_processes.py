"""`piip eval` as a launcher of two processes runs it."""

import contextlib
import io
import json
import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing

from piip.cli.main import run

Outcome = list[tuple[int, str, str]]
"""Status, standard output and standard error of each call."""


def eval_on_two(calls: list[list[str]], folder: Path) -> tuple[Outcome, Outcome]:
    """Run `piip eval` with each of these arguments on two processes, on the CPU.

    Args:
        calls: the arguments.
        folder: for what the processes leave.

    Returns:
        What the first process gave, and the second.
    """
    ports = [_free_port() for _ in calls]
    torch.multiprocessing.spawn(_one_of_two, (ports, calls, folder), nprocs=2)
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1))
    return first, second


def _one_of_two(rank: int, ports: list[int], calls: list[list[str]], folder: Path) -> None:
    torch.set_num_threads(1)
    results = []
    for port, arguments in zip(ports, calls, strict=True):
        os.environ.update(RANK=f"{rank}", LOCAL_RANK=f"{rank}", WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=f"{port}")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(["eval", *arguments, "--num-workers", "0", "--device", "cpu"])
        if dist.is_initialized():
            dist.destroy_process_group()  # which the end of the process does otherwise
        results.append([status, out.getvalue(), err.getvalue()])
    (folder / f"{rank}.json").write_text(json.dumps(results))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
