"""What the goal codes say, as pictures: the true view, the decoded view, the decoded subgoal, and what came."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from omg_lightning.data import EpisodeDataModule
from omg_lightning.envs.icons import INK, PAPER, SEAT_COLOURS, TILE, Pen, draw_disc, draw_thing
from omg_lightning.goals.quality import (
    active_units,
    decided,
    hit_ratio,
    plane_precision,
    plane_recall,
    probabilities,
)
from omg_lightning.modules import Agent, GoalVAE
from omg_lightning.modules.hindsight import latent, watched
from omg_lightning.types import ConfigError, Episodes

_CELL, _FOOTER = 96, 0.5  # pixels of a cell; height of the line below the board, in cells
_VISIBLE = 0.01  # what is less likely is not drawn
_KEY = (
    "Disc: a player, by area as likely as it is on this cell.  Anything else: as opaque as it is likely.\n"
    "Ring below the board: a player that has left, by area as likely as that is."
)


class Picture(NamedTuple):
    """What is believed of one view."""

    cells: Tensor  # float [C, h, w] probability of a 1
    absent: Tensor  # float [P] probability that the player has left


class Example(NamedTuple):
    """One row of the figure: what seat `seat` saw, was taken to be after, and came to."""

    label: str
    seat: int
    pictures: tuple[Picture, Picture, Picture, Picture]  # true, decoded, subgoal, selected
    ahead: int  # how many steps after the first picture the last one was


class GoalPictures(Callback):
    """Shows and measures the goal codes of the latest episodes. Needs an agent with `goals: subgoal`.

    The figure `figures/goals` goes to TensorBoard's images every few epochs and in the last one. Logged at every
    epoch, over all views of co-players: `goal/recall_<kind>` and `goal/precision_<kind>` for each kind of plane
    (`self`, `other`, `stags`, ...), `goal/active_units`, `goal/collapsed` (1, and a warning, where no dimension of the
    code carries anything) and `goal/hit_ratio` of the subgoals inferred in play. Must stand after `BufferRefresh` in
    the list of callbacks.

    Args:
        every: epochs between figures.
        examples: rows of the figure, each from another episode.
    """

    def __init__(self, every: int = 10, examples: int = 4) -> None:
        if every < 1 or examples < 1:
            raise ConfigError(f"GoalPictures(every={every}, examples={examples}): both must be at least 1")
        self.every, self.examples, self._warned = every, examples, False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says if there will be nothing to see."""
        if getattr(pl_module, "vae", None) is None:
            rank_zero_info("GoalPictures: this model has no goal codes to show; they come with model.goals 'subgoal'")

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the numbers, and shows the figure when it is due."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, Agent) or pl_module.vae is None or data.latest is None:
            return
        numbers = code_numbers(pl_module.vae, data.latest.episodes, data.game.plane_names)
        pl_module.log_dict(numbers, on_step=False, on_epoch=True, batch_size=1)
        if numbers["goal/collapsed"] and not self._warned:
            rank_zero_warn("goal/collapsed: every code of the state VAE is the same; lower model.vae.kl_weight")
            self._warned = True
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        epoch = trainer.current_epoch + 1
        if boards and trainer.is_global_zero and (epoch % self.every == 0 or epoch == trainer.max_epochs):
            rows, titles = draw_examples(pl_module, data, self.examples), column_titles(pl_module, data)
            figure = goal_figure(rows, data.game.plane_names, titles)
            for logger in boards:
                logger.experiment.add_figure("figures/goals", figure, data.env_steps)


@torch.no_grad()
def code_numbers(vae: GoalVAE, episodes: Episodes, plane_names: Sequence[str]) -> dict[str, Tensor]:
    """What the codes keep of all views of co-players in these episodes, by the names of the log.

    `goal/hit_ratio` is about the subgoals that were inferred when the episodes were played.
    """
    who = watched(episodes)
    views = episodes.observation[who].float()
    mean, _ = vae.codes(views)
    logits = vae.decode(mean)
    recall, precision = (measure(logits, views, plane_names) for measure in (plane_recall, plane_precision))
    pictures = torch.zeros_like(episodes.observation, dtype=torch.bool)
    pictures[who] = decided(vae.decode(episodes.goal[who]))
    units = active_units(mean).float()
    return {
        **{f"goal/recall_{kind}": share for kind, share in recall.items()},
        **{f"goal/precision_{kind}": share for kind, share in precision.items() if kind in recall},  # what there is
        "goal/active_units": units,
        "goal/collapsed": (units == 0).float(),
        "goal/hit_ratio": hit_ratio(pictures, episodes.observation > 0, who),
    }


def draw_examples(agent: Agent, data: EpisodeDataModule, count: int) -> list[Example]:
    """Draws steps of co-players that have a next step, each from another of the latest episodes.

    The randomness is this function's own: a run with pictures goes like one without.
    """
    assert agent.vae is not None
    assert data.latest is not None
    episodes, random = data.latest.episodes, torch.Generator().manual_seed(data.env_steps)
    usable = watched(episodes).cpu()
    usable[:-1] &= episodes.active[1:].cpu()
    usable[-1] = False
    ahead = selected_ahead(agent, data)
    examples: list[Example] = []
    for b in torch.randperm(usable.shape[1], generator=random).tolist():
        steps = usable[:, b].nonzero().tolist()  # [t, j]
        if steps and len(examples) < count:
            t, seat = steps[int(torch.randint(len(steps), (1,), generator=random))]
            view, later = episodes.observation[t, b, seat], int(ahead[t, b, seat])
            came = episodes.observation[t + later, b, seat]
            code = torch.stack([agent.vae.encode(view[None].float())[0][0], episodes.goal[t, b, seat]])
            cells, absent = probabilities(agent.vae.decode(code))
            pictures = (
                _true(view, absent),
                Picture(cells[0], absent[0]),
                Picture(cells[1], absent[1]),
                _true(came, absent),
            )
            name = "" if data.rounds <= data.offline_rounds else f"\n{data.seats[seat]}"
            examples.append(Example(f"seat {seat}{name}\nepisode {b}, t = {t}", seat, pictures, later))
    return examples


def selected_ahead(agent: Agent, data: EpisodeDataModule) -> Tensor:
    """How many steps ahead the subgoal of each step of the latest episodes lies in hindsight, int64 `[T, B, P]`."""
    assert agent.vae is not None
    assert data.latest is not None
    episodes, rule = data.latest.episodes, agent.selector
    codes = torch.zeros_like(episodes.goal)
    codes[episodes.active] = agent.vae.codes(episodes.observation[episodes.active].float())[0]
    values = None if data.rounds <= data.offline_rounds else agent.policy.goal_values
    random = torch.Generator(codes.device).manual_seed(data.env_steps)
    return latent(
        episodes,
        codes,
        episodes.goal,
        values,
        rule.rule,
        rule.horizon,
        agent.max_steps,
        random,
        rule.offset,
        rule.temperature,
    )[1]


def column_titles(agent: Agent, data: EpisodeDataModule) -> tuple[str, str, str, str]:
    """What the four columns show; while nobody has played for a value, the selector draws at random."""
    rule = agent.selector.rule
    if data.rounds <= data.offline_rounds and rule in ("optimistic", "conservative"):
        rule = "random"
    return (
        "true view of a\nco-player at step t",
        "the same, decoded\nfrom its VAE code",
        "its subgoal, inferred\nat step t, decoded",
        f"what came: selected\nin hindsight ({rule},\nup to {agent.selector.horizon} steps later)",
    )


def goal_figure(rows: Sequence[Example], plane_names: Sequence[str], titles: Sequence[str]) -> Figure:
    """Draws one row of pictures for each example."""
    height, width = rows[0].pictures[0].cells.shape[1:] if rows else (1, 1)
    tall = 1.62 * (height + _FOOTER) / width
    size, dpi = (7.6, tall * max(len(rows), 1) + 1.3), 35.0 * min(max(width, 4), 10)  # small cells stay legible
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    grid = figure.subplots(max(len(rows), 1), 4, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9, color=INK)
    for line, row in zip(grid, rows, strict=False):
        for axes, picture in zip(line, row.pictures, strict=True):
            axes.imshow(belief_picture(picture, plane_names, row.seat))
        line[0].text(-0.06, 0.5, row.label, transform=line[0].transAxes, ha="right", va="center", fontsize=8.5)
        line[3].text(0.99, -0.01, f"t + {row.ahead}", transform=line[3].transAxes, ha="right", va="top", fontsize=8.5)
    figure.supxlabel(_KEY, fontsize=8.5, color=INK)
    return figure


def belief_picture(picture: Picture, plane_names: Sequence[str], ego: int) -> NDArray[np.uint8]:
    """Draws what is believed of one view of seat `ego`. Every plane has its own place in a cell, so nothing hides.

    Returns:
        uint8 `[H, W, 3]`.
    """
    cells, absent = picture.cells.cpu().numpy(), picture.absent.cpu().numpy()
    (_, height, width), players = cells.shape, len(absent)
    canvas = Image.new("RGB", (width * _CELL, int((height + _FOOTER) * _CELL)), PAPER)
    small = [plane for plane, name in enumerate(plane_names) if plane >= players and name != "blocks"]
    slots = _slots([*small, *range(players)])
    for row, column in np.ndindex(height, width):
        square = Pen(ImageDraw.Draw(canvas), column * _CELL, row * _CELL, _CELL)
        square.tile(TILE)
        for plane in sorted(range(len(plane_names)), key=slots.__contains__):  # blocks lie below the rest
            likely, place = float(cells[plane, row, column]), square.part(*slots.get(plane, (0.5, 0.5, 1.0)))
            if plane < players:
                _draw_player(place, likely, (ego + plane) % players)
            elif likely > _VISIBLE:
                fade(canvas, place, partial(draw_thing, name=plane_names[plane]), likely)
    for k, likely in enumerate(absent):
        place = Pen(ImageDraw.Draw(canvas), 0, height * _CELL, _CELL).part(k * 0.5 + 0.3, _FOOTER / 2, 0.46)
        _draw_player(place, float(likely), (ego + k) % players, present=False)
    return np.asarray(canvas)


def _slots(planes: Sequence[int]) -> dict[int, tuple[float, float, float]]:
    """Gives each plane a place in a cell: (x, y, size)."""
    columns = math.ceil(math.sqrt(len(planes)))
    rows = math.ceil(len(planes) / columns)
    return {
        plane: ((k % columns + 0.5) / columns, (k // columns + 0.5) / rows, 0.94 / columns)
        for k, plane in enumerate(planes)
    }


def _draw_player(place: Pen, likely: float, seat: int, present: bool = True) -> None:
    """Draws a disc whose area is the probability, with its number if that can be read."""
    if likely > 0.3:
        draw_disc(place.part(0.5, 0.5, likely**0.5), seat, present)
    elif likely > _VISIBLE:
        radius = 0.44 * likely**0.5
        place.ellipse(0.5, 0.5, radius, radius, SEAT_COLOURS[seat % len(SEAT_COLOURS)])
        if not present:
            place.ellipse(0.5, 0.5, 0.7 * radius, 0.7 * radius, PAPER)


def fade(canvas: Image.Image, place: Pen, paint: Callable[[Pen], None], opacity: float) -> None:
    """Paints into a square of the canvas with some opacity."""
    box = (round(place.x), round(place.y), round(place.x + place.size), round(place.y + place.size))
    before = canvas.crop(box)
    after = before.copy()
    paint(Pen(ImageDraw.Draw(after), 0, 0, place.size))
    canvas.paste(Image.blend(before, after, opacity), box)


def _true(view: Tensor, absent: Tensor) -> Picture:
    """The picture of a true view `[C, h, w]`: nothing in it is uncertain."""
    there = view[: absent.shape[1]].flatten(1).sum(1)
    return Picture(view.float(), (there == 0).float())
