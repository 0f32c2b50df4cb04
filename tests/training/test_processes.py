"""Runs of their own processes: several at once, and killed ones."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from piip.training.checkpoint import find_checkpoints
from piip.training.reporter import read_log
from toy_task import ToyModel

TESTS = Path(__file__).parents[1]
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(out, *options, processes=1):
    launcher = LAUNCHER if processes == 2 else []
    command = [sys.executable, *launcher, str(TESTS / "toy_task.py"), str(out), *options]
    path = os.pathsep.join([str(TESTS), *sys.path[1:]])  # the package that is tested, wherever it comes from
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process, status=0):
    output, _ = process.communicate(timeout=240)
    assert process.returncode == status, output
    return output


def losses(run):
    return {record["step"]: record["error"] for record in read_log(run / "log.jsonl") if record["kind"] == "train"}


def wait_for(condition, process):
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_have_the_losses_of_one(tmp_path, accumulation):
    changes = json.dumps({"accumulation": accumulation, "clip_grad_norm": 1.0})
    for processes in (1, 2):
        finish(start(tmp_path / f"{processes}", "--changes", changes, processes=processes))
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "2"), rel=1e-5)
    one, two = (ToyModel.from_pretrained(tmp_path / name / "final").state_dict() for name in ("1", "2"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "processes", "workers"),
    [(signal.SIGTERM, 1, 0), (signal.SIGKILL, 1, 0), (signal.SIGTERM, 2, 0), (signal.SIGTERM, 1, 2)],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, number, processes, workers):
    options = [
        "--changes",
        json.dumps({"checkpoint_every": 4, "log_every": 2, "epochs": 4, "num_workers": workers}),
    ]
    finish(start(tmp_path / "whole", *options, processes=processes))
    run = tmp_path / "run"
    process = start(run, *options, "--seconds", "0.05", processes=processes)
    wait_for(lambda: len(find_checkpoints(run)) > 0 and len(losses(run)) > 3, process)
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
        process.communicate()
    else:
        send = os.killpg if workers else os.kill  # clusters and terminals send signals to whole groups
        send(process.pid, number)
        output, _ = process.communicate(timeout=240)
        assert "everything saved" in output
        assert process.returncode == (143 if processes == 1 else 1)
    assert len(losses(run)) < 12
    finish(start(run, *options, "--resume", processes=processes))
    whole = losses(tmp_path / "whole")
    assert losses(run)[24] == whole[24]
    final, expected = (ToyModel.from_pretrained(folder / "final").state_dict() for folder in (run, tmp_path / "whole"))
    for name, tensor in expected.items():
        torch.testing.assert_close(final[name], tensor, rtol=0, atol=0)


def stopped(run, *options, terminated):
    """What two processes print when one of them alone is told to stop, at some step or held-out sample of its own."""
    process = start(run, *options, "--terminated", *map(str, terminated), processes=2)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 1, output
    return output


@pytest.mark.slow
def test_a_signal_that_one_process_gets_stops_all_one_step_later(tmp_path):
    run = tmp_path / "run"
    options = ["--changes", json.dumps({"log_every": 100, "clip_grad_norm": 1.0})]
    output = stopped(run, *options, terminated=(1, "step", 2))
    assert [path.name for path in find_checkpoints(run)] == ["step-00000004"]
    assert output.count("stopped after step 4, with everything saved") == 2
    # What two processes have saved, one goes on from.
    finish(start(run, *options, "--resume"))
    finish(start(tmp_path / "whole", *options))
    assert losses(run)[18] == pytest.approx(losses(tmp_path / "whole")[18], rel=1e-4)
    for name, tensor in ToyModel.from_pretrained(tmp_path / "whole" / "final").state_dict().items():
        torch.testing.assert_close(
            ToyModel.from_pretrained(run / "final").state_dict()[name], tensor, rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "sample"), [(1, 1), (0, 8)])
def test_a_signal_that_one_process_gets_stops_an_evaluation_of_all(tmp_path, rank, sample):
    run, options = tmp_path / "run", ["--num-val", "9"]  # five samples for the first process, four for the second
    output = stopped(run, *options, terminated=(rank, "evaluation", sample))
    assert output.count("stopped in the evaluation after step 6") == 2
    assert [record["step"] for record in read_log(run / "log.jsonl") if record["kind"] == "eval"] == []
    finish(start(run, *options, "--resume", processes=2))
    finish(start(tmp_path / "whole", *options, processes=2))
    assert losses(run) == losses(tmp_path / "whole")


@pytest.mark.slow
def test_fewer_samples_than_processes_are_evaluated(tmp_path):
    finish(start(tmp_path / "run", "--num-val", "1", processes=2))
    assert len([record for record in read_log(tmp_path / "run" / "log.jsonl") if record["kind"] == "eval"]) == 3


@pytest.mark.slow
def test_slow_steps_on_several_processes_with_workers_leave_a_checkpoint_when_their_launcher_is_told_to_stop(tmp_path):
    run = tmp_path / "run"
    changes = {"checkpoint_every": 3, "log_every": 1000, "num_workers": 1, "epochs": 2}
    process = start(run, "--changes", json.dumps(changes), "--seconds", "3", processes=2)  # six seconds a step
    wait_for(lambda: find_checkpoints(run), process)
    os.kill(process.pid, signal.SIGTERM)  # which it sends to the process groups of both, workers and all
    begun = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert "stopped after step 5, with everything saved" in output
    assert find_checkpoints(run)[-1].name == "step-00000005"
    assert time.monotonic() - begun > 10  # longer than workers used to live
