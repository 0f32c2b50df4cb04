"""A training of a tiny segmentor, for a test to start on several processes: `train_segmentor.py DATA OUT`."""

import sys
from pathlib import Path

import torch

from piip.tasks.segmentation.augmentation import SegmentationAugmentationConfig, SegmentationPreprocessConfig
from piip.tasks.segmentation.upernet import FCNHeadConfig, UperHeadConfig
from piip.training.loop import train
from piip.training.optimizer import OptimizerConfig
from piip.training.recipe import TrainingConfig
from piip.training.segmentation import SegmentationRecipe, SegmentationTask
from tiny_segmenter import tiny_segmenter

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Dropout is random, and each process draws its own.
    model = tiny_segmenter(
        decode_head=UperHeadConfig(channels=32, dropout=0.0),
        auxiliary_head=FCNHeadConfig(channels=32, dropout=0.0),
        preprocess=SegmentationPreprocessConfig(short_side=96),
    ).build()
    training = TrainingConfig(
        steps=4, batch_size=4, optimizer=OptimizerConfig(lr=1e-4), num_workers=0, log_every=1, evaluate_every=2
    )
    recipe = SegmentationRecipe(training=training, augmentation=SegmentationAugmentationConfig())
    train(SegmentationTask(model, recipe, Path(sys.argv[1])), Path(sys.argv[2]), cpu=True)
