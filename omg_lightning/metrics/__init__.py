"""Torchmetrics of finished episodes: returns, predicted actions, beliefs and goal codes."""

from omg_lightning.metrics.belief import BeliefMetrics
from omg_lightning.metrics.codes import CodeMetrics
from omg_lightning.metrics.information import normalised_information
from omg_lightning.metrics.prediction import PredictionMetrics, recalls
from omg_lightning.metrics.returns import ReturnMetrics, return_statistics

__all__ = [
    "BeliefMetrics",
    "CodeMetrics",
    "PredictionMetrics",
    "ReturnMetrics",
    "normalised_information",
    "recalls",
    "return_statistics",
]
