"""Training: one member, and an ensemble of them."""

from poolscout.training.dataset import TrainingSet, build_training_set
from poolscout.training.ensemble import hold_back, train_ensemble
from poolscout.training.member import Progress, train_member

__all__ = ["Progress", "TrainingSet", "build_training_set", "hold_back", "train_ensemble", "train_member"]
