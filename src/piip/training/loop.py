"""The training loop, on Accelerate: one process or many, in any precision, resumable at any step."""

import dataclasses
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from timm.utils import ModelEmaV3
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader

from piip.hub import PretrainedModel
from piip.precision import AUTOCAST
from piip.sampling import AugmentedDataset, EpochBatchSampler, SampleKey, ShardedSampler, derive_seed
from piip.training.accelerator import make_accelerator
from piip.training.checkpoint import Checkpoints, Progress
from piip.training.failure import NonFiniteLossError
from piip.training.interrupt import StoppableProgress, StopSignals, TrainingStoppedError
from piip.training.meter import Reading, StepMeter
from piip.training.reach import freeze_unreached, kept_trainable
from piip.training.reporter import Journal, Reporter
from piip.training.run_folder import BEST, FINAL, LOG_NAME, describe_run, find_start
from piip.training.task import NUM_IMAGES, Task
from piip.workers import init_worker


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training has come to.

    Attributes:
        steps: optimizer steps that were made.
        scores: of the last evaluation.
        score: which of them tells the best model.
        best_score: the highest of those, and
        best_step: where that was.
        best: folder of the best model.
        final: folder of the last model.
    """

    steps: int
    scores: dict[str, float]
    score: str
    best_score: float
    best_step: int
    best: Path
    final: Path


def train(
    task: Task[Any], out: Path, *, resume: bool = False, reporter: Reporter | None = None, cpu: bool = False
) -> TrainingResult:
    """Train a model; all processes of a launcher call this alike.

    The folder of the run gets `recipe.json`, the model's configuration as `model.json`, `log.jsonl`, TensorBoard's
    files, `checkpoints/`, each of which is a model too, and the models `best/` and `final/`, both the averaged ones
    where averaging is on.

    Args:
        task: what to train, on what.
        out: folder of the run.
        resume: continue the run in the folder after its last checkpoint, or begin it where there is none.
        reporter: told about everything, on the main process.
        cpu: leave accelerators alone.

    Raises:
        ValueError: when the folder holds a run and `resume` is not set, or a run with other settings; and for
            settings that do not fit the data, the model or the processes.
        CheckpointError: naming a checkpoint that cannot be read.
        NonFiniteLossError: naming the step.
        TrainingStoppedError: after SIGINT or SIGTERM; a checkpoint has been written.
    """
    with kept_trainable(task.model), warnings.catch_warnings():
        # Depthwise kernels have a dimension of one element, whose stride differs and means nothing.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        trainer = Trainer(task, out, reporter or Reporter(), cpu=cpu)
        with StopSignals(trainer.accelerator.num_processes) as signals:
            return trainer.run(resume, signals)


class Trainer:
    """The state of a training and what happens to it; see `train`."""

    def __init__(self, task: Task[Any], out: Path, reporter: Reporter, *, cpu: bool) -> None:
        self.task, self.out = task, out
        self.training = task.training
        self.accelerator = make_accelerator(task.training, out, cpu=cpu)
        self.reporter = reporter if self.accelerator.is_main_process else Reporter()
        self.journal = Journal(out / LOG_NAME, self.accelerator)
        self.sampler = EpochBatchSampler(
            len(task.train_data),
            self.training.batch_size,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            parts=self.training.accumulation,
            seed=self.training.seed,
            groups=task.groups,
        )
        self.steps_per_epoch = self.sampler.batches_per_epoch
        self.num_steps = self.training.num_steps(self.steps_per_epoch)
        self.training.schedule.check_length(self.num_steps, self.steps_per_epoch)
        self.loader: DataLoader[Any] = DataLoader(
            AugmentedDataset(task.train_data, self.training.seed),
            batch_sampler=self.sampler,
            collate_fn=task.collate,
            num_workers=self.training.num_workers,
            persistent_workers=self.training.num_workers > 0,
            worker_init_fn=init_worker,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        self.frozen = self._freeze_unreached()
        optimizer = self.training.optimizer.build(task.model)
        self.model, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        decay = self.training.ema_decay
        self.ema = None if decay is None else ModelEmaV3(task.model, decay=decay)
        averaged: PretrainedModel | None = None if self.ema is None else self.ema.module
        self.evaluated = task.model if averaged is None else averaged
        self.checkpoints = Checkpoints(
            out, self.accelerator, task.model, self.optimizer, averaged, self.training.keep_checkpoints
        )
        self.progress = Progress(num_samples=len(task.train_data))
        self.meter = StepMeter(check_grad_norm=self.accelerator.scaler is None)
        self.scores: dict[str, float] = {}
        self.last_checkpoint: Path | None = None
        self.clock = 0.0

    def run(self, resume: bool, signals: StopSignals) -> TrainingResult:
        """Train to the end."""
        self._open(resume)
        self.reporter.on_start(self.progress.step, self.num_steps)
        if self.frozen:
            self.reporter.on_frozen(self.frozen)
        if self._evaluation_is_due():  # a run that was stopped before an evaluation still owes it
            self._evaluate(signals)
        while self.progress.step < self.num_steps:
            self._finish_epoch(signals)
        self._evaluate(signals)
        return self._close()

    def _freeze_unreached(self) -> list[str]:
        """Freeze what no loss reaches, found by a forward pass that leaves no other trace.

        It is one of two samples, or of one where the steps have no more: then a model that cannot learn from one says
        so before anything is written.
        """
        model = self.task.model.to(self.accelerator.device).train()
        data = AugmentedDataset(self.task.train_data, self.training.seed)
        part = self.training.batch_size // (self.accelerator.num_processes * self.training.accumulation)
        batch = self.task.collate([data[SampleKey(0, index)] for index in range(min(2, part))])
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with self.accelerator.autocast():
            losses = self.task.losses(model, send_to_device(batch, self.accelerator.device), (0,))
        names = freeze_unreached(model, torch.stack(list(losses.values())).sum())
        for buffer, value in buffers:  # such as the running means of batch norms
            buffer.copy_(value)
        return names

    def _open(self, resume: bool) -> None:
        """Prepare the folder, and go back to the last checkpoint if there is one."""
        start = find_start(self.out, self.task, resume=resume)
        if start is not None:
            self._load(start)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            describe_run(self.out, self.task)
        self.journal.open(self.progress.step, self.progress.evaluated_step)
        self.clock = time.perf_counter()

    def _load(self, checkpoint: Path) -> None:
        progress = self.checkpoints.load(checkpoint)
        if progress.num_samples != self.progress.num_samples:
            raise ValueError(
                f"{checkpoint}: the run was started on {progress.num_samples} training samples, and there are "
                f"{self.progress.num_samples} now; give the same data, or start a new run in another folder"
            )
        self.progress, self.last_checkpoint = progress, checkpoint

    def _finish_epoch(self, signals: StopSignals) -> None:
        """Make the steps of this epoch that are still to be made, and the evaluations that are due among them."""
        epoch, start = divmod(self.progress.step, self.steps_per_epoch)
        self.sampler.set_epoch(epoch, start)
        batches = iter(self.loader)
        left = self.num_steps - epoch * self.steps_per_epoch
        for index in range(start, min(self.steps_per_epoch, left)):
            self._make_step(epoch, index, batches)
            self.reporter.on_step()
            self._look_up(signals)
            if self._evaluation_is_due():
                self._evaluate(signals)

    def _make_step(self, epoch: int, index: int, batches: Iterator[Any]) -> None:
        """Make one optimizer step, without waiting for the device."""
        factor = self._lr_factor(self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        seed = self.training.seed
        torch.manual_seed(derive_seed("step", seed, self.progress.step, self.accelerator.process_index))
        self.model.train()
        for part in range(self.training.accumulation):
            batch = send_to_device(next(batches), self.accelerator.device, non_blocking=True)
            last = part == self.training.accumulation - 1
            # Not `accelerator.accumulate`, whose count would go on where a resumed run with other parts begins.
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                losses = self.task.losses(self.model, batch, (seed, epoch, index))
                self.accelerator.backward(torch.stack(list(losses.values())).sum() / self.training.accumulation)
            self.meter.add_losses(losses, 1 / self.training.accumulation)
        limit = math.inf if self.training.clip_grad_norm is None else self.training.clip_grad_norm
        grad_norm = self.accelerator.clip_grad_norm_(self.parameters, limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.task.model)
        self.meter.end_step(grad_norm)
        self._advance(step=self.progress.step + 1)

    def _lr_factor(self, step: int) -> float:
        return self.training.schedule.factor(step, self.num_steps, self.steps_per_epoch)

    def _look_up(self, signals: StopSignals) -> None:
        """Log, save and stop where it is time to; only then the device is waited for."""
        step = self.progress.step
        intervals = (self.training.checkpoint_every, self.training.checkpoint_interval(self.steps_per_epoch))
        save = step == self.num_steps or any(step % interval == 0 for interval in intervals)
        number = signals.agreed(wait=save)
        if not (save or number or step % self.training.log_every == 0):
            return
        first = step - self.meter.steps + 1
        reading = self.meter.read(self.accelerator)
        if reading is None:
            return
        if reading.first_bad is not None:
            raise self._failure(first + reading.first_bad, f"a loss or gradient is not finite ({_means(reading)})")
        self._write_log(reading, step - first + 1)
        if save or number:
            self._save()
        if number:
            message = f"stopped after step {step}, with everything saved in {self.last_checkpoint}; --resume continues"
            raise TrainingStoppedError(number, message)

    def _save(self) -> None:
        # Weights may overflow in a step whose loss and gradients are finite, and a checkpoint is there to go on from.
        weights = [parameter.detach() for parameter in self.parameters]
        largest = self.accelerator.reduce(get_total_norm(weights, math.inf))
        if not math.isfinite(largest.item()):
            raise self._failure(self.progress.step, "the weights are not finite, so they are not saved")
        self.last_checkpoint = self.checkpoints.save(self.progress)
        self.reporter.on_checkpoint(self.last_checkpoint)

    def _failure(self, step: int, what: str) -> NonFiniteLossError:
        lr = self.training.optimizer.lr
        return NonFiniteLossError(f"step {step}: {what}", out=self.out, checkpoint=self.last_checkpoint, lr=lr)

    def _evaluation_is_due(self) -> bool:
        """Whether it is time for an evaluation before that at the end."""
        step = self.progress.step
        is_time = step % self.training.evaluation_interval(self.steps_per_epoch) == 0
        return is_time and step < self.num_steps and step != self.progress.evaluated_step

    def _evaluate(self, signals: StopSignals) -> None:
        step, autocast = self.progress.step, AUTOCAST[self.training.precision]
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        share = len(ShardedSampler(self.task.num_val, rank=rank, world_size=world_size))
        report = self.reporter.on_evaluation_start(share)
        message = f"stopped in the evaluation after step {step}; {self.last_checkpoint} is complete; --resume continues"
        progress = StoppableProgress(share, report, signals, message)
        self.scores = self.task.evaluate(self.evaluated, autocast=autocast, progress=progress)
        progress.check_complete()
        score, best = self.scores[self.task.score], self.progress.best_score
        # Images that cannot be read are left out, and what is left of them may be easier.
        num_images = int(self.scores.get(NUM_IMAGES, self.task.num_val))
        if best is None or math.isnan(best) or (num_images, score) > (self.progress.best_images, best):
            self._advance(best_score=score, best_step=step, best_images=num_images)
            if self.accelerator.is_main_process:
                self.evaluated.save_pretrained(self.out / BEST)
        self._advance(evaluated_step=step)
        self.reporter.on_evaluation(self.journal.record("eval", step, step / self.steps_per_epoch, self.scores))
        self.accelerator.wait_for_everyone()
        self.clock = time.perf_counter()

    def _close(self) -> TrainingResult:
        if self.accelerator.is_main_process:
            self.evaluated.save_pretrained(self.out / FINAL)
        self.accelerator.wait_for_everyone()
        self.journal.close()
        return TrainingResult(
            steps=self.progress.step,
            scores=self.scores,
            score=self.task.score,
            best_score=self.progress.best_score if self.progress.best_score is not None else math.nan,
            best_step=self.progress.best_step,
            best=self.out / BEST,
            final=self.out / FINAL,
        )

    def _write_log(self, reading: Reading, steps: int) -> None:
        step, now = self.progress.step, time.perf_counter()
        figures = {
            "loss": sum(reading.losses.values()),
            **reading.losses,
            "grad_norm": reading.grad_norm,
            "lr": self.training.optimizer.lr * self._lr_factor(step - 1),
            "samples_per_second": steps * self.training.batch_size / (now - self.clock),
        }
        self.clock = now
        self.reporter.on_log(self.journal.record("train", step, step / self.steps_per_epoch, figures))

    def _advance(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)


def _means(reading: Reading) -> str:
    values = ", ".join(f"{name} {value:g}" for name, value in reading.losses.items())
    return f"means since the last entry of the log: {values}, gradient norm {reading.grad_norm:g}"
