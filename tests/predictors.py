"""Region predictors for tests: for given models, untrained."""

from dataclasses import replace
from pathlib import Path

import torch

from lr_helpers.models.loading import Models
from lr_helpers.predictor import RegionPredictor, models_of


def untrained(models: Models, seed: int = 0, **settings) -> RegionPredictor:
    """As `train_regions` would begin; with more decided choices than a fresh network's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RegionPredictor(models.backbone.vit.config.hidden_size, models.clip.encode_text(["x"]).shape[1], **settings)
    with torch.no_grad():
        network.judge[-1].weight *= 20
    network.trained_on = models_of(models)
    return network.eval()


def with_predictor(models: Models, file: Path, seed: int = 0) -> Models:
    """A copy of the models whose profile has an untrained predictor in this file."""
    file.write_bytes(untrained(models, seed).to_bytes())
    return replace(models, profile=models.profile.but(regions=file), predictor=None)
