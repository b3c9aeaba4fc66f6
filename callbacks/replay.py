"""Episodes as animations: one now and then in TensorBoard, all of a `predict` as files."""

import io
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from omg_lightning.games import Game
from omg_lightning.games.grid.render import Capture, captures_of, frame, gif_bytes, write_gif
from omg_lightning.types import NO_GOAL, ConfigError, Episodes


class EpisodeAnimation(Callback):
    """Shows an episode of the latest rollout, that of environment 0, as an animation in TensorBoard's images.

    Its tag is `episode`. The offline phase, where scripts play, is left out, except at the end of a `fit` that has
    nothing else.

    Args:
        every: epochs between animations; there is one at the end of `fit`, too.
    """

    def __init__(self, every: int = 20) -> None:
        if every < 1:
            raise ConfigError(f"EpisodeAnimation every is {every}: it must be at least 1")
        self.every, self._shown = every, 0  # environment steps at the last animation

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows an episode when it is due."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if (trainer.current_epoch + 1) % self.every == 0 and not data.latest_offline:
            self._show(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows an episode, unless the last epoch has just done so."""
        if trainer.datamodule.env_steps != self._shown:  # type: ignore[attr-defined]
            self._show(trainer)

    def _show(self, trainer: Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if data.latest is None or not boards or not trainer.is_global_zero or data.game.layout is None:
            return
        self._shown = data.env_steps
        animation = gif_bytes(episode_frames(data.latest.episodes, 0, data.game))
        for logger in boards:
            add_gif(logger, "episode", animation, data.env_steps)


class ReplayWriter(Callback):
    """Writes the episodes of a `predict` as `replays/episode_000.gif`, ... in the run folder."""

    def __init__(self) -> None:
        self._count = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts from 0."""
        self._count = 0

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one animation for each of the B episodes."""
        if trainer.datamodule.game.layout is None:  # type: ignore[attr-defined]
            return
        folder = _folder(trainer)
        for b in range(outputs.active.shape[1]):
            frames = episode_frames(outputs, b, trainer.datamodule.game)  # type: ignore[attr-defined]
            write_gif(frames, folder / f"episode_{self._count:03d}.gif")
            self._count += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says where they are."""
        game = trainer.datamodule.game  # type: ignore[attr-defined]
        if game.layout is None:
            print(f"no replays written: {game.name} has no pictures, because it is not played on a grid")
        else:
            print(f"{self._count} replays written to {_folder(trainer)}")


def episode_frames(
    episodes: Episodes, b: int, game: Game, cell: int = 64, steps: Container[int] | None = None
) -> list[NDArray[np.uint8]]:
    """Draws one episode, as seat 0 sees it: the start, and the board after each step with what the step took.

    The board after the last step is nowhere recorded. It is drawn as the board before it, without what was taken, and
    without those who took it (unless somebody in this episode took something and stayed: then it is not that kind of
    game); so the last move of those who took nothing does not show.

    Args:
        episodes: `[T, B, P, ...]`.
        b: which of the B episodes.
        game: for the names of what is drawn and of goals.
        cell: pixels of a cell's side.
        steps: which frames, by the number of steps played by then; all by default.

    Returns:
        uint8 `[H, W, 3]` each; all of them are one more than the episode has steps.
    """
    assert game.layout is not None, "only grids can be drawn"
    names = game.layout.plane_names
    length = int(episodes.active[:, b].any(-1).sum())
    views = episodes.observation[:length, b, 0].cpu()  # [L, C, h, w]
    returns = episodes.reward[:length, b].cumsum(0).tolist()  # [L, P]
    leavers = not bool(((episodes.achieved_goal[:-1, b] != NO_GOAL) & episodes.active[1:, b]).any())
    title, frames = f"step 0 of {game.max_steps}", []
    if steps is None or 0 in steps:
        frames.append(frame(views[0], names, title=title, returns=[0.0] * game.num_players, cell=cell))
    for t in range(length):
        if steps is not None and t + 1 not in steps:
            continue
        realised = episodes.achieved_goal[t, b].tolist()
        captures = captures_of(views[t], realised, game.goal_names, names)
        board = views[t + 1] if t + 1 < length else _without(views[t], captures, game.num_players, leavers)
        title = f"{'step' if t + 1 < length else 'end: step'} {t + 1} of {game.max_steps}"
        frames.append(frame(board, names, title=title, returns=returns[t], captures=captures, cell=cell))
    return frames


def add_gif(logger: TensorBoardLogger, tag: str, animation: bytes, step: int) -> None:
    """Puts an animation among TensorBoard's images: `add_video` fails with moviepy 2, and the page shows any GIF."""
    width, height = Image.open(io.BytesIO(animation)).size
    picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=animation)
    writer = logger.experiment._get_file_writer()  # the attribute `file_writer` is None after a first `fit`
    writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)


def _without(view: Tensor, captures: list[Capture], players: int, leavers: bool) -> Tensor:
    """The board `[C, h, w]` after these captures, whose seats leave with them if `leavers`."""
    board = view.clone()
    for capture in captures:
        if leavers:
            board[list(capture.seats)] = 0
        board[players:, capture.row, capture.column] = 0
    return board


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.log_dir or trainer.default_root_dir) / "replays"
