"""Inferred goals as points in TensorBoard's projector."""

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from omg_lightning.events import next_achieved, watched
from omg_lightning.types import NO_GOAL, ConfigError, Episodes


class Projector(Callback):
    """Adds the inferred goals of co-players to TensorBoard's projector, at the end of `fit`.

    Points are goal vectors (beliefs, or latent subgoals) at steps of the latest round. They can be coloured by true
    goal, achieved goal, seat and step. `Direct` has no points.

    Args:
        points: largest number of points.
    """

    def __init__(self, points: int = 2000) -> None:
        if points < 1:
            raise ConfigError(f"Projector(points={points}): expected at least 1")
        self.points = points

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the points once: each call of `add_embedding` writes files of its own."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data.latest is None or not trainer.is_global_zero:
            return
        vectors, rows = points(data.latest.episodes, self.points, data.game.goal_names)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and len(vectors) and vectors.shape[1] > 1:
                step = data.env_steps
                logger.experiment.add_embedding(vectors, rows, tag="goals", global_step=step, metadata_header=HEADER)


HEADER = ["true goal", "realised goal", "seat", "step"]


def points(episodes: Episodes, count: int, names: tuple[str, ...]) -> tuple[Tensor, list[list[str]]]:
    """Return goal vectors `[m, D]` of co-players at m steps, and the labels of each, as in `HEADER`."""
    who = watched(episodes).nonzero()
    chosen = who[torch.randperm(len(who), generator=torch.Generator().manual_seed(0))[:count].to(who.device)]
    t, b, p = chosen.unbind(1)
    realised = next_achieved(episodes.achieved_goal, episodes.active)[t, b, p].tolist()
    truth = episodes.true_goal[t, b, p].tolist()

    def name(goal: int) -> str:
        return "none" if goal == NO_GOAL else names[goal]

    rows = [
        [name(true), name(came), str(seat), str(step)]
        for true, came, seat, step in zip(truth, realised, p.tolist(), t.tolist(), strict=True)
    ]
    return episodes.goal[t, b, p], rows
