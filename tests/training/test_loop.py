import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from piip.config import read_json
from piip.training.checkpoint import CheckpointError, find_checkpoints
from piip.training.failure import NonFiniteLossError
from piip.training.interrupt import TrainingStoppedError
from piip.training.loop import train
from piip.training.optimizer import OptimizerConfig
from piip.training.reporter import Reporter, read_log
from piip.training.schedule import CosineSchedule, StepSchedule
from piip.training.task import NUM_IMAGES
from toy_task import StopAfter, ToyModel, ToyTask, toy_training

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def losses(run):
    return [(record["step"], record["error"]) for record in read_log(run / "log.jsonl") if record["kind"] == "train"]


def weights(folder):
    return ToyModel.from_pretrained(folder).state_dict()


def assert_same_run(first, second):
    """The same losses and the same weights, bit for bit."""
    assert losses(first) == losses(second)
    for folder in ("best", "final"):
        for mine, theirs in zip(weights(first / folder).values(), weights(second / folder).values(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def stop_with(number):
    return lambda: os.kill(os.getpid(), number)


def test_a_run_learns_and_leaves_everything_behind(tmp_path):
    task = ToyTask(toy_training(epochs=10))
    result = train(task, tmp_path / "run")
    run = tmp_path / "run"
    assert result.steps == 60
    assert {path.name for path in run.iterdir()} == {
        *("best", "final", "checkpoints", "model.json", "recipe.json", "log.jsonl", "tensorboard")
    }
    evaluations = [record for record in read_log(run / "log.jsonl") if record["kind"] == "eval"]
    assert [record["epoch"] for record in evaluations] == list(range(1, 11))
    assert -evaluations[-1]["accuracy"] < -0.2 * evaluations[0]["accuracy"]
    assert result.best_score == max(record["accuracy"] for record in evaluations)
    assert result.scores["accuracy"] == evaluations[-1]["accuracy"]
    for folder in (result.best, result.final):
        assert ToyTask(toy_training()).evaluate(
            ToyModel.from_pretrained(folder), autocast=None, progress=lambda _: None
        )["accuracy"] == pytest.approx(result.best_score if folder == result.best else result.scores["accuracy"])


def test_the_schedule_reaches_the_optimizer(tmp_path):
    training = toy_training(optimizer=OptimizerConfig(lr=0.03, lr_multipliers={"head": 10.0}))
    seen = []

    class Watching(Reporter):
        def on_step(self):
            seen.append(task.model.head.weight.detach().clone())

    task = ToyTask(training)
    train(task, tmp_path / "run", reporter=Watching())
    factors = [training.schedule.factor(step, 18, 6) for step in range(18)]
    logged = [record["lr"] for record in read_log(tmp_path / "run" / "log.jsonl") if record["kind"] == "train"]
    assert logged == pytest.approx([0.03 * factor for factor in factors])  # the base rate, whatever the multipliers
    start = ToyTask(training).model.head.weight
    assert (seen[0] - start).abs().max().item() == pytest.approx(10 * 0.03 * factors[0], rel=0.1)  # Adam's first step


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_of_so_many_steps_is_evaluated_between_them(tmp_path, workers):
    training = toy_training(epochs=None, steps=15, evaluate_every=4, num_workers=workers, keep_checkpoints=9)
    result = train(ToyTask(training), tmp_path / "run")
    assert result.steps == 15
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert [record["step"] for record in log if record["kind"] == "eval"] == [4, 8, 12, 15]
    assert [record["epoch"] for record in log if record["kind"] == "eval"] == [4 / 6, 8 / 6, 2, 15 / 6]
    assert [path.name[-2:] for path in find_checkpoints(tmp_path / "run")] == ["04", "08", "12", "15"]
    factors = [training.schedule.factor(step, 15, 6) for step in range(15)]
    assert [record["lr"] for record in log if record["kind"] == "train"] == pytest.approx([0.03 * f for f in factors])
    # The samples and the losses are those of a training in epochs; only the learning rates differ.
    flat = {"schedule": StepSchedule(), "num_workers": workers}
    train(ToyTask(toy_training(epochs=3, **flat)), tmp_path / "epochs")
    train(ToyTask(toy_training(epochs=None, steps=15, evaluate_every=4, **flat)), tmp_path / "steps")
    assert losses(tmp_path / "steps") == losses(tmp_path / "epochs")[:15]


@pytest.mark.parametrize("step", [3, 4, 7, 12])
def test_a_training_of_so_many_steps_goes_on_where_it_was(tmp_path, step):
    training = toy_training(epochs=None, steps=14, evaluate_every=4)
    train(ToyTask(training, dropout=0.3), tmp_path / "whole")
    with pytest.raises(TrainingStoppedError):
        train(ToyTask(training, dropout=0.3), tmp_path / "run", reporter=StopAfter(step, stop_with(signal.SIGINT)))
    train(ToyTask(training, dropout=0.3), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    runs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "run")]
    whole, run = ([record for record in log if record["kind"] == "eval"] for log in runs)
    assert run == whole


def test_a_single_step_trains(tmp_path):
    task = ToyTask(toy_training(epochs=1, schedule=CosineSchedule()), size=4)
    task.num_val = 4
    assert train(task, tmp_path / "run").steps == 1
    assert not torch.equal(task.model.head.weight, ToyTask().model.head.weight)


def test_a_warmup_that_is_not_over_before_the_training_is_refused(tmp_path):
    for schedule in (CosineSchedule(warmup_epochs=3), CosineSchedule(warmup_steps=18)):
        with pytest.raises(ValueError, match=r"warmup_(epochs|steps): is (3|18), and must be less"):
            train(ToyTask(toy_training(schedule=schedule)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 6, 9])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(tmp_path, number, step):
    training = toy_training(log_every=2, clip_grad_norm=0.5)
    train(ToyTask(training, dropout=0.3), tmp_path / "whole")
    with pytest.raises(TrainingStoppedError, match=f"step {step}, .*step-{step:08d}") as stop:
        train(ToyTask(training, dropout=0.3), tmp_path / "run", reporter=StopAfter(step, stop_with(number)))
    assert stop.value.exit_status == 128 + number
    train(ToyTask(training, dropout=0.3), tmp_path / "run", resume=True)
    whole, run = losses(tmp_path / "whole"), losses(tmp_path / "run")
    assert run[-1] == whole[-1]
    assert set(whole) - set(run) <= {entry for entry in whole if entry[0] == step + 1}
    assert_same_weights(tmp_path / "whole", tmp_path / "run")


def assert_same_weights(first, second):
    for mine, theirs in zip(weights(first / "final").values(), weights(second / "final").values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_handlers_of_signals_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(ToyTask(toy_training(epochs=1)), tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interrupt_does_not_wait_for_the_step(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(ToyTask(), tmp_path / "run", reporter=StopAfter(2, twice))


class CrashError(Exception):
    pass


def crash():
    raise CrashError


def test_a_crashed_run_goes_on_from_its_last_checkpoint(tmp_path):
    training = toy_training(checkpoint_every=4, ema_decay=0.9)
    train(ToyTask(training, dropout=0.3), tmp_path / "whole")
    with pytest.raises(CrashError):
        train(ToyTask(training, dropout=0.3), tmp_path / "run", reporter=StopAfter(11, crash))
    assert [path.name for path in find_checkpoints(tmp_path / "run")] == ["step-00000006", "step-00000008"]
    train(ToyTask(training, dropout=0.3), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_run_that_dies_before_its_evaluation_makes_up_for_it(tmp_path):
    training = toy_training()
    train(ToyTask(training), tmp_path / "whole")

    class DiesInEvaluation(ToyTask):
        def evaluate(self, model, *, autocast, progress):
            raise CrashError

    with pytest.raises(CrashError):
        train(DiesInEvaluation(training), tmp_path / "run")
    train(ToyTask(training), tmp_path / "run", resume=True)
    assert read_log_without_times(tmp_path / "run") == read_log_without_times(tmp_path / "whole")


def read_log_without_times(run):
    return [
        {name: value for name, value in record.items() if name != "samples_per_second"}
        for record in read_log(run / "log.jsonl")
    ]


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first = train(ToyTask(), tmp_path / "run")
    again = train(ToyTask(), tmp_path / "run", resume=True)
    assert (again.steps, again.scores, again.best_score, again.best_step) == (
        *(first.steps, first.scores, first.best_score, first.best_step),
    )


def test_resume_begins_where_there_is_nothing(tmp_path):
    assert train(ToyTask(), tmp_path / "run", resume=True).steps == 18


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    train(ToyTask(), tmp_path / "run")
    before = read_log(tmp_path / "run" / "log.jsonl")
    with pytest.raises(ValueError, match=r"holds a run; resume it \(--resume\), or choose another folder"):
        train(ToyTask(), tmp_path / "run")
    assert read_log(tmp_path / "run" / "log.jsonl") == before


def test_a_run_is_not_resumed_with_other_settings(tmp_path):
    train(ToyTask(), tmp_path / "run")
    other = toy_training(epochs=4, optimizer=replace(toy_training().optimizer, lr=0.5))
    with pytest.raises(ValueError, match=r"training.epochs is 4, was 3; training.optimizer.lr is 0.5, was 0.03"):
        train(ToyTask(other), tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match=r"model.json.*width is 32, was 16"):
        train(ToyTask(width=32), tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="started on 24 training samples, and there are 30 now"):
        train(ToyTask(size=30), tmp_path / "run", resume=True)


def test_a_run_may_be_resumed_with_other_housekeeping(tmp_path):
    train(ToyTask(), tmp_path / "run")
    train(ToyTask(toy_training(log_every=5, keep_checkpoints=1, accumulation=2)), tmp_path / "run", resume=True)
    assert read_json(tmp_path / "run" / "recipe.json")["training"]["log_every"] == 5


@pytest.mark.parametrize("log_every", [1, 100])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_checkpoint(tmp_path, log_every):
    training = toy_training(log_every=log_every, checkpoint_every=2, epochs=1)
    order = []

    class Watching(ToyTask):
        def losses(self, model, batch, key):
            if len(batch[1]) == 4:  # not the two samples that are looked at before the first step
                order.append(batch[1].isnan().any().item())
            return super().losses(model, batch, key)

    with pytest.raises(NonFiniteLossError) as failure:
        train(Watching(training, bad_index=7), tmp_path / "run")
    bad_step = order.index(True) + 1
    good = find_checkpoints(tmp_path / "run")
    assert f"step {bad_step}: a loss or gradient is not finite" in str(failure.value)
    if good:
        assert f"{good[-1]} is good" in str(failure.value)
        command = f"piip train {good[-1]} --recipe {tmp_path / 'run' / 'recipe.json'} --data ... --out NEW "
        assert f"{command}--training.optimizer.lr 0.01" in str(failure.value)
        ToyModel.from_pretrained(good[-1])
        assert int(good[-1].name.removeprefix("step-")) < bad_step
    else:
        assert "no checkpoint yet" in str(failure.value)
        assert bad_step <= 2


def test_accumulation_changes_memory_only(tmp_path):
    for accumulation in (1, 2):
        task = ToyTask(toy_training(accumulation=accumulation, clip_grad_norm=1.0))
        train(task, tmp_path / f"{accumulation}")
    once, twice = (dict(losses(tmp_path / name)) for name in ("1", "2"))
    assert once == pytest.approx(twice, rel=1e-5)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 1)])
def test_a_run_goes_on_in_another_number_of_parts(tmp_path, before, after):
    train(ToyTask(toy_training()), tmp_path / "whole")
    with pytest.raises(CrashError):
        train(
            ToyTask(toy_training(accumulation=before, checkpoint_every=3)),
            tmp_path / "run",
            reporter=StopAfter(4, crash),
        )
    train(ToyTask(toy_training(accumulation=after)), tmp_path / "run", resume=True)
    assert dict(losses(tmp_path / "run")) == pytest.approx(dict(losses(tmp_path / "whole")), rel=1e-5)


def test_the_environment_does_not_change_the_steps(tmp_path, monkeypatch):
    train(ToyTask(), tmp_path / "1")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    train(ToyTask(), tmp_path / "2")
    assert losses(tmp_path / "1") == losses(tmp_path / "2")


def test_the_averaged_weights_are_what_is_saved(tmp_path):
    task = ToyTask(toy_training(ema_decay=0.5, epochs=1))
    expected = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}

    def average():
        for name, tensor in task.model.state_dict().items():
            expected[name].lerp_(tensor, 0.5)

    class Averaging(StopAfter):
        def on_step(self):
            average()

    result = train(task, tmp_path / "run", reporter=Averaging(0, crash))
    saved = weights(result.final)
    for name, tensor in expected.items():
        torch.testing.assert_close(saved[name], tensor)
    assert not torch.equal(saved["head.weight"], task.model.state_dict()["head.weight"])


def test_clipping_limits_the_step(tmp_path):
    limited = toy_training(clip_grad_norm=1e-9, epochs=1, optimizer=replace(toy_training().optimizer, weight_decay=0.0))
    with_limit = ToyTask(limited)
    train(with_limit, tmp_path / "run")
    norms = [record["grad_norm"] for record in read_log(tmp_path / "run" / "log.jsonl") if record["kind"] == "train"]
    assert min(norms) > 1e-3  # the log has the norms before clipping
    start = ToyTask(limited).model.state_dict()
    moved = max((tensor - start[name]).abs().max().item() for name, tensor in with_limit.model.state_dict().items())
    assert moved < 0.03  # beside Adam's epsilon such gradients are small; six steps of about 0.03 otherwise


def test_what_no_loss_reaches_is_told_and_left_as_it_was(tmp_path):
    told = []

    class Watching(StopAfter):
        def on_frozen(self, names):
            told.append(list(names))
            assert not task.model.unused.weight.requires_grad

    for step, run in ((99, "whole"), (3, "failed")):
        task = ToyTask()
        before = task.model.unused.weight.clone()
        with nullcontext() if step > 18 else pytest.raises(CrashError):
            train(task, tmp_path / run, reporter=Watching(step, crash))
        assert all(parameter.requires_grad for parameter in task.model.parameters())
        assert torch.equal(task.model.unused.weight, before)
    assert told == [["unused.weight", "unused.bias"]] * 2


def test_settings_that_are_refused_leave_the_model_trainable(tmp_path):
    task = ToyTask(toy_training(optimizer=OptimizerConfig(lr=1.0, lr_multipliers={"heads": 2.0})))
    with pytest.raises(ValueError, match="did you mean"):
        train(task, tmp_path / "run")
    assert all(parameter.requires_grad for parameter in task.model.parameters())


def test_a_single_sample_is_enough(tmp_path):
    task = ToyTask(toy_training(batch_size=1), size=8)
    task.train_data.inputs = task.train_data.inputs[:1]
    task.num_val = 1
    assert train(task, tmp_path / "run").steps == 3


def test_fp16_needs_a_loss_scaler(tmp_path):
    with pytest.raises(ValueError, match="fp16 needs a loss scaler, which there is none of on cpu; use bf16"):
        train(ToyTask(toy_training(precision="fp16")), tmp_path / "run", cpu=True)
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    task = ToyTask(toy_training(checkpoint_every=2))

    def overflow():
        with torch.no_grad():
            task.model.head.weight[0, 0] = float("inf")

    with pytest.raises(NonFiniteLossError, match=r"step 4: the weights are not finite.*step-00000002 is good"):
        train(task, tmp_path / "run", reporter=StopAfter(4, overflow))
    assert [path.name for path in find_checkpoints(tmp_path / "run")] == ["step-00000002"]


def test_a_run_without_a_checkpoint_is_in_nobodys_way(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(CrashError):
        train(ToyTask(toy_training(seed=1)), run, reporter=StopAfter(3, crash))
    assert (run / "recipe.json").exists()
    assert len(losses(run)) == 2
    train(ToyTask(), run)
    train(ToyTask(), tmp_path / "fresh")
    assert_same_run(run, tmp_path / "fresh")
    assert read_json(run / "recipe.json") == read_json(tmp_path / "fresh" / "recipe.json")


@pytest.mark.parametrize("resume", [False, True])
def test_models_without_checkpoints_are_not_overwritten(tmp_path, resume):
    train(ToyTask(), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match=r"holds the models of a run .*best.*no checkpoint"):
        train(ToyTask(), tmp_path / "run", resume=resume)


@pytest.mark.parametrize("name", ["progress.json", "model.safetensors", "optimizer.pt", "ema.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "garbled", "empty"])
def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path, name, damage):
    training = toy_training(checkpoint_every=4, ema_decay=0.5, epochs=1)
    train(ToyTask(training), tmp_path / "run")
    earlier, last = find_checkpoints(tmp_path / "run")
    content = (last / name).read_bytes()
    if damage == "gone":
        (last / name).unlink()
    else:
        damaged = {"cut": content[: len(content) // 2], "garbled": bytes(255 - byte for byte in content), "empty": b""}
        (last / name).write_bytes(damaged[damage])
    with pytest.raises(CheckpointError) as failure:
        train(ToyTask(training), tmp_path / "run", resume=True)
    assert str(failure.value).startswith(str(last / name))
    assert f"delete the folder {last}, and --resume goes on from {earlier}" in str(failure.value)
    shutil.rmtree(last)
    assert train(ToyTask(training), tmp_path / "run", resume=True).steps == 6
    shutil.rmtree(earlier)
    (last / name).unlink()
    with pytest.raises(CheckpointError, match="there is no checkpoint before it"):
        train(ToyTask(training), tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    training = toy_training(epochs=1)
    for run, lr_multipliers in (("1", {}), ("2", {"head": 2.0})):
        optimizer = OptimizerConfig(lr=0.03, lr_multipliers=lr_multipliers)
        train(ToyTask(replace(training, optimizer=optimizer)), tmp_path / run)
    ours, theirs = (find_checkpoints(tmp_path / run)[-1] for run in ("1", "2"))
    shutil.copy(theirs / "optimizer.pt", ours)
    with pytest.raises(CheckpointError, match=r"optimizer.pt: does not fit this training: .*parameter group"):
        train(ToyTask(replace(training, optimizer=OptimizerConfig(lr=0.03))), tmp_path / "1", resume=True)


def test_a_checkpoint_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    flushed = {}  # whether the checkpoint was there, by the number of the file or folder
    path = tmp_path / "run" / "checkpoints" / "step-00000006"

    def record(descriptor):
        flushed[os.fstat(descriptor).st_ino] = path.exists()

    monkeypatch.setattr(os, "fsync", record)
    train(ToyTask(toy_training(epochs=1, ema_decay=0.5)), tmp_path / "run")
    names = {file.name for file in path.iterdir()}
    assert names == {"config.json", "model.safetensors", "optimizer.pt", "ema.safetensors", "progress.json"}
    assert [flushed[file.stat().st_ino] for file in (*path.iterdir(), path)] == [False] * 6
    assert flushed[path.parent.stat().st_ino] is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_an_evaluation(tmp_path, number):
    class Interrupted(ToyTask):
        def evaluate(self, model, *, autocast, progress):
            progress(3)
            os.kill(os.getpid(), number)
            progress(1)
            raise AssertionError("went on")

    with pytest.raises(TrainingStoppedError, match=r"in the evaluation after step 6; .*step-00000006 is comp") as stop:
        train(Interrupted(), tmp_path / "run")
    assert stop.value.exit_status == 128 + number
    train(ToyTask(), tmp_path / "run", resume=True)
    train(ToyTask(), tmp_path / "whole")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_an_evaluation_does_the_samples_of_its_process(tmp_path):
    class Careless(ToyTask):
        def evaluate(self, model, *, autocast, progress):
            progress(7)
            return {"accuracy": 1.0}

    with pytest.raises(RuntimeError, match="told of 7 samples, and the share of this process is 8"):
        train(Careless(), tmp_path / "run")


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    class Scored(ToyTask):
        scores = iter([float("nan"), 1.0, float("nan")])

        def evaluate(self, model, *, autocast, progress):
            progress(8)
            return {"accuracy": next(self.scores)}

    result = train(Scored(), tmp_path / "run")
    assert (result.best_score, result.best_step) == (1.0, 12)


def test_a_score_on_fewer_images_is_never_the_best(tmp_path):
    class Scored(ToyTask):
        figures = iter([{"accuracy": 9.0, NUM_IMAGES: 2}, {"accuracy": 0.5}, {"accuracy": 8.0, NUM_IMAGES: 7}])

        def evaluate(self, model, *, autocast, progress):
            progress(8)
            return next(self.figures)

    result = train(Scored(), tmp_path / "run")
    assert (result.best_score, result.best_step) == (0.5, 12)
    assert [record.get(NUM_IMAGES) for record in read_log(tmp_path / "run/log.jsonl") if "accuracy" in record] == [
        *(2, None, 7)
    ]


def test_training_works_outside_the_main_thread(tmp_path):
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(train, ToyTask(), tmp_path / "run").result().steps == 18


def test_the_groups_of_a_task_make_up_its_batches(tmp_path):
    class Grouped(ToyTask):
        def collate(self, samples):
            inputs, targets = super().collate(samples)
            batches.append({bool(value > 0) for value in inputs[:, 0]} if len(inputs) == 4 else {True})
            return inputs, targets

    batches = []
    task = Grouped()
    task.train_data.inputs[:, 0] = torch.tensor([9.0, -9.0]).repeat(12)  # so far apart that noise changes no sign
    task.groups = [0, 1] * 12
    train(task, tmp_path / "run")
    assert len(batches) == 19
    assert all(len(signs) == 1 for signs in batches)


def test_old_checkpoints_and_unfinished_ones_go(tmp_path):
    unfinished = tmp_path / "run" / "checkpoints" / ".unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "rubbish").touch()
    train(ToyTask(toy_training(checkpoint_every=1, keep_checkpoints=3)), tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-00000016", "step-00000017", "step-00000018"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, monkeypatch):
    def fail(_):
        raise OSError("no space left on device")

    task = ToyTask(toy_training(checkpoint_every=2))

    def fill_the_disk():
        monkeypatch.setattr("piip.training.checkpoint.torch.save", lambda states, path: fail(path))

    with pytest.raises(OSError, match="no space"):
        train(task, tmp_path / "run", reporter=StopAfter(3, fill_the_disk))
    assert [path.name for path in find_checkpoints(tmp_path / "run")] == ["step-00000002"]
    monkeypatch.undo()
    train(ToyTask(toy_training(checkpoint_every=2)), tmp_path / "whole")
    train(ToyTask(toy_training(checkpoint_every=2)), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_bf16_keeps_weights_in_fp32(tmp_path):
    seen = []

    class Watching(ToyTask):
        def losses(self, model, batch, key):
            seen.append(model(batch[0]).dtype)
            return super().losses(model, batch, key)

    task = Watching(toy_training(precision="bf16", epochs=1))
    hook = task.model.head.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    train(task, tmp_path / "run")
    hook.remove()
    assert torch.bfloat16 in seen
    assert {parameter.dtype for parameter in task.model.parameters()} == {torch.float32}


def test_workers_change_nothing(tmp_path):
    for workers in (0, 2):
        train(ToyTask(toy_training(num_workers=workers, epochs=2)), tmp_path / f"{workers}")
    assert_same_run(tmp_path / "0", tmp_path / "2")


def test_a_batch_that_the_data_do_not_fill_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_samples=3 do not fill one batch of batch_size=4"):
        train(ToyTask(size=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_the_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(ToyTask(), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/error")] == list(range(1, 19))
    assert len(events.Scalars("eval/accuracy")) == 3
