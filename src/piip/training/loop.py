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
from accelerate import Accelerator, DistributedType
from accelerate.utils import GradientAccumulationPlugin, send_to_device
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from piip.config import save_config
from piip.hub import PretrainedModel
from piip.sampling import AugmentedDataset, EpochBatchSampler, SampleKey, derive_seed
from piip.training.checkpoint import Checkpoints, Progress, check_unchanged, find_checkpoints
from piip.training.interrupt import StopSignals, TrainingStoppedError
from piip.training.meter import Reading, StepMeter
from piip.training.reach import freeze_unreached
from piip.training.recipe import TrainingConfig
from piip.training.reporter import Record, Reporter, RunLog
from piip.training.task import Task
from piip.workers import init_worker

RECIPE_NAME = "recipe.json"
MODEL_NAME = "model.json"
LOG_NAME = "log.jsonl"
BEST, FINAL = "best", "final"

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # in Accelerate's words
# What a run may be continued with another value of: the result is the same.
_FREE = frozenset(
    {"accumulation", "num_workers", "evaluate_every", "checkpoint_every", "keep_checkpoints", "log_every"}
)


class NonFiniteLossError(ValueError):
    """A loss or gradient became infinite or not a number; the message has the step and the last good checkpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training has come to.

    Attributes:
        steps: optimizer steps that were made.
        scores: of the last evaluation.
        best_score: the highest score, and
        best_step: where that was.
        best: folder of the best model.
        final: folder of the last model.
    """

    steps: int
    scores: dict[str, float]
    best_score: float
    best_step: int
    best: Path
    final: Path


def train(
    task: Task[Any], out: Path, *, resume: bool = False, reporter: Reporter | None = None, cpu: bool = False
) -> TrainingResult:
    """Train a model; all processes of a launcher call this alike.

    The folder of the run gets `recipe.json`, the model's configuration as `model.json`, `log.jsonl`, TensorBoard's
    files, `checkpoints/`, and the models `best/` and `final/`, both the averaged ones where averaging is on.

    Args:
        task: what to train, on what.
        out: folder of the run.
        resume: continue the run in the folder after its last checkpoint, or begin it where there is none.
        reporter: told about everything, on the main process.
        cpu: leave accelerators alone.

    Raises:
        ValueError: when the folder holds a run and `resume` is not set, or a run with other settings; and for
            settings that do not fit the data, the model or the processes.
        NonFiniteLossError: naming the step.
        TrainingStoppedError: after SIGINT or SIGTERM; a checkpoint has been written.
    """
    trainer = Trainer(task, out, reporter or Reporter(), cpu=cpu)
    with StopSignals() as signals, warnings.catch_warnings():
        # Depthwise kernels have a dimension of one element, whose stride differs and means nothing.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return trainer.run(resume, signals)


class Trainer:
    """The state of a training and what happens to it; see `train`."""

    def __init__(self, task: Task[Any], out: Path, reporter: Reporter, *, cpu: bool) -> None:
        self.task, self.out = task, out
        self.training = task.training
        self.accelerator = _make_accelerator(task.training, out, cpu=cpu)
        self.reporter = reporter if self.accelerator.is_main_process else Reporter()
        self.sampler = EpochBatchSampler(
            len(task.train_data),
            self.training.batch_size,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            parts=self.training.accumulation,
            seed=self.training.seed,
        )
        self.steps_per_epoch = self.sampler.batches_per_epoch
        self.loader: DataLoader[Any] = DataLoader(
            AugmentedDataset(task.train_data, self.training.seed),
            batch_sampler=self.sampler,
            collate_fn=task.collate,
            num_workers=self.training.num_workers,
            persistent_workers=self.training.num_workers > 0,
            worker_init_fn=init_worker,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        self._freeze_unreached()
        optimizer = self.training.optimizer.build(task.model)
        self.model, self.optimizer = self.accelerator.prepare(task.model, optimizer)
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        decay = self.training.ema_decay
        self.ema = None if decay is None else ModelEmaV3(task.model, decay=decay)
        averaged: PretrainedModel | None = None if self.ema is None else self.ema.module
        self.evaluated = task.model if averaged is None else averaged
        self.checkpoints = Checkpoints(out, self.accelerator, averaged, self.training.keep_checkpoints)
        self.progress = Progress(num_samples=len(task.train_data))
        self.meter = StepMeter(check_grad_norm=self.accelerator.scaler is None)
        self.scores: dict[str, float] = {}
        self.last_checkpoint: Path | None = None
        self.log: RunLog | None = None
        self.clock = 0.0

    def run(self, resume: bool, signals: StopSignals) -> TrainingResult:
        """Train to the end."""
        self._open(resume)
        num_steps = self.training.epochs * self.steps_per_epoch
        self.reporter.on_start(self.progress.step, num_steps)
        while self.progress.step < num_steps:
            if self._evaluation_is_due():  # a run that was stopped at the end of an epoch still owes its evaluation
                self._evaluate()
            self._finish_epoch(signals)
        self._evaluate()
        return self._close()

    def _freeze_unreached(self) -> None:
        """Freeze what no loss reaches, found by a forward pass of two samples that leaves no other trace."""
        model = self.task.model.to(self.accelerator.device).train()
        data = self.loader.dataset
        batch = self.task.collate([data[SampleKey(0, index)] for index in range(2)])
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        losses = self.task.losses(model, send_to_device(batch, self.accelerator.device), (0,))
        freeze_unreached(model, torch.stack(list(losses.values())).sum())
        for buffer, value in buffers:  # such as the running means of batch norms
            buffer.copy_(value)

    def _open(self, resume: bool) -> None:
        """Prepare the folder, and go back to the last checkpoint if there is one."""
        found = find_checkpoints(self.out)
        recipe, config = self.out / RECIPE_NAME, self.out / MODEL_NAME
        if recipe.exists() and not resume:
            raise ValueError(f"out: {self.out} holds a run; resume it (--resume), or choose another folder")
        if recipe.exists():
            check_unchanged(self.task.recipe, recipe, _FREE)
            check_unchanged(self.task.model.config, config)
        if found:
            self._load(found[-1])
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.out.mkdir(parents=True, exist_ok=True)
            save_config(self.task.model.config, config)
            save_config(self.task.recipe, recipe)
            self.log = RunLog(self.out / LOG_NAME, self.progress.step, self.progress.evaluated_step)
        settings = {"tensorboard": {"purge_step": self.progress.step + 1}}
        self.accelerator.init_trackers("tensorboard", init_kwargs=settings)
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
        """Make the steps of this epoch that are still to be made."""
        epoch, start = divmod(self.progress.step, self.steps_per_epoch)
        self.sampler.set_epoch(epoch, start)
        batches = iter(self.loader)
        for index in range(start, self.steps_per_epoch):
            self._make_step(epoch, index, batches)
            self.reporter.on_step()
            self._look_up(signals, last=index == self.steps_per_epoch - 1)

    def _make_step(self, epoch: int, index: int, batches: Iterator[Any]) -> None:
        """Make one optimizer step, without waiting for the device."""
        position = epoch + (index + 1) / self.steps_per_epoch
        factor = self.training.schedule.factor(position, self.training.epochs)
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

    def _look_up(self, signals: StopSignals, *, last: bool) -> None:
        """Log, save and stop where it is time to; only here the device is waited for."""
        step, alone = self.progress.step, self.accelerator.num_processes == 1
        save = last or step % self.training.checkpoint_every == 0
        if not (save or step % self.training.log_every == 0 or (alone and signals.received)):
            return
        first = step - self.meter.steps + 1
        reading = self.meter.read(self.accelerator, signals.received)
        if reading is None:
            return
        if reading.first_bad is not None:
            raise NonFiniteLossError(self._describe_failure(first + reading.first_bad, reading))
        self._write_log(reading, step - first + 1)
        if save or reading.signal:
            self.last_checkpoint = self.checkpoints.save(self.progress)
            self.reporter.on_checkpoint(self.last_checkpoint)
        if reading.signal:
            message = f"stopped after step {step}, with everything saved in {self.last_checkpoint}; --resume continues"
            raise TrainingStoppedError(reading.signal, message)

    def _describe_failure(self, step: int, reading: Reading) -> str:
        values = ", ".join(f"{name} {value:g}" for name, value in reading.losses.items())
        good = "there is no checkpoint yet" if self.last_checkpoint is None else f"{self.last_checkpoint} is good"
        return (
            f"step {step}: a loss or gradient is not finite (means since the last entry of the log: {values}, gradient "
            f"norm {reading.grad_norm:g}); {good}. Lower training.optimizer.lr, set training.clip_grad_norm, or leave "
            f"fp16 for bf16."
        )

    def _evaluation_is_due(self) -> bool:
        epoch, rest = divmod(self.progress.step, self.steps_per_epoch)
        return epoch > 0 and rest == 0 and epoch % self.training.evaluate_every == 0 and not self._is_evaluated()

    def _is_evaluated(self) -> bool:
        return self.progress.evaluated_step == self.progress.step

    def _evaluate(self) -> None:
        step, autocast = self.progress.step, _AUTOCAST[self.training.precision]
        progress = self.reporter.on_evaluation_start(math.ceil(self.task.num_val / self.accelerator.num_processes))
        self.scores = self.task.evaluate(self.evaluated, autocast=autocast, progress=progress)
        score = self.scores[self.task.score]
        if self.progress.best_score is None or score > self.progress.best_score:
            self._advance(best_score=score, best_step=step)
            if self.accelerator.is_main_process:
                self.evaluated.save_pretrained(self.out / BEST)
        self._advance(evaluated_step=step)
        self.reporter.on_evaluation(self._record("eval", self.scores))
        self.accelerator.wait_for_everyone()
        self.clock = time.perf_counter()

    def _close(self) -> TrainingResult:
        if self.accelerator.is_main_process:
            self.evaluated.save_pretrained(self.out / FINAL)
        self.accelerator.wait_for_everyone()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        return TrainingResult(
            steps=self.progress.step,
            scores=self.scores,
            best_score=self.progress.best_score if self.progress.best_score is not None else math.nan,
            best_step=self.progress.best_step,
            best=self.out / BEST,
            final=self.out / FINAL,
        )

    def _write_log(self, reading: Reading, steps: int) -> None:
        now = time.perf_counter()
        figures = {
            **reading.losses,
            "grad_norm": reading.grad_norm,
            "lr": max(group["lr"] for group in self.optimizer.param_groups),
            "samples_per_second": steps * self.training.batch_size / (now - self.clock),
        }
        self.clock = now
        self.reporter.on_log(self._record("train", figures))

    def _record(self, kind: str, figures: dict[str, float]) -> Record:
        step = self.progress.step
        record: Record = {"kind": kind, "step": step, "epoch": step / self.steps_per_epoch, **figures}
        if self.log is not None:
            self.log.write(record)
        self.accelerator.log({f"{kind}/{name}": value for name, value in figures.items()}, step=step)
        return record

    def _advance(self, **changes: Any) -> None:
        self.progress = dataclasses.replace(self.progress, **changes)


def _make_accelerator(training: TrainingConfig, out: Path, *, cpu: bool) -> Accelerator:
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=_PRECISION[training.precision],
        # The parts of a batch are this loop's own; a plugin keeps the environment from setting another number.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
        log_with="tensorboard",
        project_dir=out,
    )
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(f"{kind.value}: training is data-parallel so far (DDP); choose multi-GPU or multi-CPU")
    return accelerator
