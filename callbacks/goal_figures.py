"""Figures of an evaluation: predicted actions, codes in use, and the belief over an episode."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.belief_figure import Panel, belief_figure, frame_steps, named_parts
from callbacks.goal_quality import GoalQuality
from callbacks.replay import episode_frames
from callbacks.table_figures import code_figure, confusion_figure
from omg_lightning.evaluation.exact import exact_observer
from omg_lightning.evaluation.figures import save_figure
from omg_lightning.events import watched
from omg_lightning.games.grid.render import board_only
from omg_lightning.metrics import CodeMetrics
from omg_lightning.training import Agent
from omg_lightning.types import NO_GOAL, ConfigError, Episodes

_CELL = 64  # pixels


class GoalFigures(Callback):
    """Draws the metrics of `GoalQuality`, which must come before it in the list of callbacks.

    Each evaluation adds the figures to TensorBoard's images. `validate`, and the evaluation that ends `fit`, also write
    them into the run folder:

    - `figures/confusion`, `confusion.png`: actions of co-players against predicted actions;
    - `figures/codes`, `codes.png`, with `Codebook`: how often each code occurred at an event, by achieved goal, and the
      decoded code;
    - `figures/belief`, `belief.png`, with an explicit belief (`Declared` or `Codebook`): the frames of one episode, and
      the belief about each co-player below them. A latent subgoal is not a distribution over named goals, so `Subgoal`
      has no such figure; `GoalPictures` decodes it instead.

    Args:
        episode: index of the shown episode of the evaluation; its initial state is the same each time.
        frames: largest number of frames.
    """

    def __init__(self, episode: int = 0, frames: int = 8) -> None:
        if episode < 0 or frames < 2:
            raise ConfigError(f"GoalFigures(episode={episode}, frames={frames}): expected at least 0 and at least 2")
        self.episode, self.frames = episode, frames
        self._chosen: Episodes | None = None  # [T, 1, P, ...]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raise ConfigError if `GoalQuality` is missing."""
        if self._quality(trainer) is None:
            raise ConfigError("GoalFigures draws the metrics of GoalQuality: put callbacks.GoalQuality before it")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Episodes,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the episode to show; the last one if there are fewer."""
        first = batch_idx * trainer.datamodule.num_envs  # type: ignore[attr-defined]
        if first <= self.episode:
            b = min(self.episode - first, batch.active.shape[1] - 1)
            self._chosen = batch.map(lambda field: field[:, b : b + 1])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw all figures."""
        quality = self._quality(trainer)
        if not isinstance(pl_module, Agent) or quality is None:
            return
        game, usage = trainer.datamodule.game, None  # type: ignore[attr-defined]
        with pl_module.predictions.sync_context():  # combines all ranks
            confusion = pl_module.predictions.confusion.cpu()
        codes, vectors = quality.metrics.get("codes"), pl_module.opponent.code_vectors()
        if isinstance(codes, CodeMetrics):
            with codes.sync_context():
                usage = codes.usage.cpu()
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if not trainer.is_global_zero:
            return
        show = partial(_show, trainer, folder)
        if confusion.any():
            show("confusion", confusion_figure(confusion, game.action_names))
        usage = usage if usage is not None and vectors is not None and usage.any() else None
        if usage is not None and vectors is not None:
            show("codes", code_figure(vectors.cpu(), usage, game))
        if self._chosen is not None and game.layout is not None:
            belief = pl_module.opponent.belief_view(self._chosen.goal, game.goal_names)
            if belief is not None:
                chosen = self._chosen._replace(goal=belief.values)
                show("belief", self._belief(trainer, chosen, belief.names, usage))

    def _belief(self, trainer: Trainer, episode: Episodes, names: Sequence[str] | None, usage: Tensor | None) -> Figure:
        """The figure of one episode, `[T, 1, P, ...]`, with the names of its goals."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        game, exact = data.game, exact_observer(data.env, episode)
        coded, names = names is None, names or game.goal_names
        parts = named_parts(names, episode.goal.shape[-1], usage if coded else None)
        panels = []
        for seat in watched(episode).any(0)[0].nonzero()[:, 0].tolist():
            here = int(episode.active[:, 0, seat].sum())
            belief, truth = episode.goal[:here, 0, seat].cpu().numpy(), episode.true_goal[:here, 0, seat].tolist()
            scripted = exact is not None and any(goal != NO_GOAL for goal in truth)  # exact Bayes assumes scripts
            best = exact.belief[:here, 0, seat].cpu().numpy() if exact is not None and scripted else None
            panels.append(Panel(seat, data.seats[seat], belief, truth, best))
        steps = frame_steps(int(episode.active.any(-1).sum()), self.frames)
        pictures = [board_only(picture, _CELL) for picture in episode_frames(episode, 0, game, _CELL, steps)]
        return belief_figure(dict(zip(steps, pictures, strict=True)), panels, parts, names)

    def _quality(self, trainer: Trainer) -> GoalQuality | None:
        before = trainer.callbacks[: trainer.callbacks.index(self)]  # type: ignore[attr-defined]
        return next((each for each in before if isinstance(each, GoalQuality)), None)


def _show(trainer: Trainer, folder: Path, name: str, figure: Figure) -> None:
    """Add a figure to TensorBoard as `figures/<name>`, and at the end write `<name>.png` to the run folder."""
    last = trainer.state.fn == "validate" or trainer.current_epoch + 1 == trainer.max_epochs
    if last and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        save_figure(figure, folder / f"{name}.png", bbox_inches="tight", pad_inches=0.05)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(f"figures/{name}", figure, trainer.datamodule.env_steps)  # type: ignore[attr-defined]
