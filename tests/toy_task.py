"""A task that trains in a second, for the tests of the training loop; as a script it is one process of a launcher."""

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from piip.hub import PretrainedModel
from piip.sampling import ShardedSampler
from piip.training.interrupt import TrainingStoppedError
from piip.training.loop import train
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.reporter import Reporter
from piip.training.schedule import CosineSchedule
from piip.training.task import Task


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    width: int = 16
    dropout: float = 0.0

    def build(self):
        return ToyModel(self)


class ToyModel(PretrainedModel):
    config_class = ToyConfig

    def __init__(self, config):
        super().__init__(config)
        self.body = nn.Sequential(nn.Linear(4, config.width), nn.GELU(), nn.Dropout(config.dropout))
        self.head = nn.Linear(config.width, 1)
        self.unused = nn.Linear(2, 2)  # as the last interactions of branches that no head reads

    def forward(self, inputs, targets=None):
        outputs = self.head(self.body(inputs))[:, 0]
        return outputs if targets is None else {"error": (outputs - targets).square().mean()}


@dataclass(frozen=True, kw_only=True)
class ToyRecipe:
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            epochs=3,
            batch_size=4,
            optimizer=OptimizerConfig(lr=0.03),
            schedule=CosineSchedule(warmup_epochs=0.5),
            num_workers=0,
            log_every=1,
        )
    )


class ToyData:
    """Points of which some features are noise, drawn like an augmentation."""

    def __init__(self, size, bad_index=None, seconds=0.0):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(size, 4, generator=generator)
        self.bad_index = bad_index
        self.seconds = seconds

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        time.sleep(self.seconds)
        inputs = self.inputs[index] + 0.1 * torch.randn(4)
        target = self.inputs[index].sum()
        return inputs, target * (float("nan") if index == self.bad_index else 1)


class ToyTask(Task):
    score = "accuracy"
    num_val = 8
    evaluation_seconds = 0.0  # for each sample
    terminated = None  # rank, "step" or "evaluation", and number of the step or sample at which it gets SIGTERM

    def __init__(self, training=None, *, size=24, bad_index=None, seconds=0.0, **config):
        torch.manual_seed(0)
        self.model = ToyConfig(**config).build()
        self.recipe = ToyRecipe() if training is None else ToyRecipe(training=training)
        self.training = self.recipe.training
        self.train_data = ToyData(size, bad_index, seconds)

    def collate(self, samples):
        inputs, targets = zip(*samples, strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def losses(self, model, batch, key):
        self._terminate("step", key[-1])
        return model(*batch)

    @torch.no_grad()
    def evaluate(self, model, *, autocast, progress):
        model.eval()
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        error = torch.zeros(())
        for index in ShardedSampler(self.num_val, rank=rank, world_size=world_size):
            self._terminate("evaluation", index)
            time.sleep(self.evaluation_seconds)
            inputs = self.train_data.inputs[index]
            error += (model(inputs[None]) - inputs.sum()).square().sum()
            progress(1)
        if world_size > 1:
            dist.all_reduce(error)
        return {"accuracy": -error.item() / self.num_val}

    def _terminate(self, place, number):
        if [os.environ.get("RANK"), place, str(number)] == self.terminated:
            os.kill(os.getpid(), signal.SIGTERM)


def toy_training(**changes):
    return replace(ToyRecipe().training, **changes)


class StopAfter(Reporter):
    """Calls something after a step."""

    def __init__(self, step, act):
        self.step, self.act, self.done = step, act, 0

    def on_start(self, step, num_steps):
        self.done = step

    def on_step(self):
        self.done += 1
        if self.done == self.step:
            self.act()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--num-val", type=int, default=ToyTask.num_val)
    parser.add_argument("--evaluation-seconds", type=float, default=0.0)
    parser.add_argument("--terminated", nargs=3)
    parser.add_argument("--changes", type=json.loads, default={})
    options = parser.parse_args()
    task = ToyTask(toy_training(**options.changes), seconds=options.seconds)
    task.num_val, task.evaluation_seconds = options.num_val, options.evaluation_seconds
    task.terminated = options.terminated
    status = 0
    try:
        train(task, options.out, resume=options.resume, cpu=True)
    except TrainingStoppedError as error:
        print(error, flush=True)
        status = error.exit_status
    if dist.is_initialized():
        dist.destroy_process_group()
    sys.exit(status)
