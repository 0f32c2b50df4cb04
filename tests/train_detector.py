"""A training of a tiny detector, for a test to start on several processes.

`train_detector.py KIND DATA OUT DIVISOR`, with the number that padded sides are a multiple of.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from piip.tasks.detection.augmentation import DetectionPreprocessConfig, SingleScaleConfig
from piip.tasks.detection.mask_rcnn import sampling
from piip.training.detection import DetectionRecipe, DetectionTask, read_data
from piip.training.loop import train
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino

if __name__ == "__main__":
    torch.set_num_threads(1)
    # The choice of samples is random, and each process draws its own.
    sampling.subsample = lambda candidates, count: candidates[:count]
    torch.manual_seed(0)
    kind, data, out, divisor = sys.argv[1:]
    config = {"mask_rcnn": tiny_detector, "dino": tiny_dino}[kind]()
    preprocess = DetectionPreprocessConfig(scale=(96, 96), size_divisor=int(divisor))
    model = replace(config, preprocess=preprocess).build()
    training = TrainingConfig(
        epochs=2, batch_size=4, optimizer=OptimizerConfig(lr=1e-4), num_workers=0, log_every=1, evaluate_every=2
    )
    recipe = DetectionRecipe(training=training, augmentation=SingleScaleConfig())
    train(DetectionTask(model, recipe, read_data(Path(data))), Path(out), cpu=True)
