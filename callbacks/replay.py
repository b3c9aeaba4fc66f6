"""Episodes as animations: some in TensorBoard, all episodes of `predict` as files."""

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

from omg_lightning.games import Game
from omg_lightning.games.grid.render import frame, gif_bytes, write_gif
from omg_lightning.types import ConfigError, Episodes
from omg_lightning.viewer import write_html
from omg_lightning.viewer.export import Side
from omg_lightning.viewer.recorded import boards, recorded_side


class EpisodeAnimation(Callback):
    """Adds an episode of the latest rollout, from environment 0, as an animation to TensorBoard's images.

    Its tag is `episode`. The offline phase, in which scripts play, is skipped, except at the end of a `fit` without
    an online phase.

    Args:
        every: epochs between animations; one more is added at the end of `fit`.
    """

    def __init__(self, every: int = 20) -> None:
        if every < 1:
            raise ConfigError(f"EpisodeAnimation every is {every}: it must be at least 1")
        self.every, self._shown = every, 0  # environment steps at the last animation

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add an animation when one is due."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if (trainer.current_epoch + 1) % self.every == 0 and not data.latest_offline:
            self._show(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add an animation, unless the last epoch has done so."""
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


SHOWN = 20  # episodes in the page of `predict`


class ReplayWriter(Callback):
    """Writes the episodes of `predict` as `replays/episode_000.gif`, ... in the run folder.

    `replay.html` in that folder shows the first of them in the page of `replay`, with the learners' beliefs.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sides: list[Side] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from 0."""
        self._count, self._sides = 0, []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one animation for each of the B episodes."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data.game.layout is None:
            return
        folder = _folder(trainer)
        for b in range(outputs.active.shape[1]):
            frames = episode_frames(outputs, b, data.game)
            if len(self._sides) < SHOWN:
                self._sides.append(recorded_side("", outputs, b, data.game, pl_module.opponent))  # type: ignore[arg-type]
            write_gif(frames, folder / f"episode_{self._count:03d}.gif")
            self._count += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the folder of the animations."""
        game = trainer.datamodule.game  # type: ignore[attr-defined]
        if game.layout is None:
            print(f"no replays written: {game.name} is not a game on a grid, so it has no pictures")
        else:
            write_html([[side] for side in self._sides], _folder(trainer) / "replay.html")
            print(f"{self._count} replays written to {_folder(trainer)}; open its replay.html in a browser")


def episode_frames(
    episodes: Episodes, b: int, game: Game, cell: int = 64, steps: Container[int] | None = None
) -> list[NDArray[np.uint8]]:
    """Draw one episode, as seat 0 observes it: the start, and the board after each step with what the step captured.

    See `omg_lightning.viewer.recorded.boards` for the board after the last step.

    Args:
        episodes: `[T, B, P, ...]`.
        b: index of the episode.
        game: for the names of objects and goals.
        cell: pixels of a cell's side.
        steps: the frames to draw, by the number of steps before them; all by default.

    Returns:
        uint8 `[H, W, 3]` each; all frames are one more than the steps of the episode.
    """
    assert game.layout is not None, "only grids can be drawn"
    names, frames = game.layout.plane_names, []
    length = int(episodes.active[:, b].any(-1).sum())
    for t, (board, captures) in enumerate(boards(episodes, b, game)):
        if steps is None or t in steps:
            title = f"{'step' if t < length or not t else 'end: step'} {t} of {game.max_steps}"
            returns = episodes.reward[:t, b].sum(0).tolist()
            frames.append(frame(board, names, title=title, returns=returns, captures=captures, cell=cell))
    return frames


def add_gif(logger: TensorBoardLogger, tag: str, animation: bytes, step: int) -> None:
    """Add an animation to TensorBoard's images: `add_video` fails with moviepy 2, but TensorBoard shows any GIF."""
    width, height = Image.open(io.BytesIO(animation)).size
    picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=animation)
    writer = logger.experiment._get_file_writer()  # the attribute `file_writer` is None after a first `fit`
    writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.log_dir or trainer.default_root_dir) / "replays"
