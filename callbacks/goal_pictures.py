"""Pictures of goal codes: true observation, decoded observation, decoded subgoal, and the future that followed."""

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks.view_figure import Example, Picture, goal_figure, true_picture
from omg_lightning import ranks
from omg_lightning.data import EpisodeDataModule
from omg_lightning.encoders.quality import (
    active_units,
    decided,
    hit_ratio,
    plane_precision,
    plane_recall,
    probabilities,
)
from omg_lightning.events import watched
from omg_lightning.opponents import Subgoal
from omg_lightning.opponents.selector import select_subgoals, shift
from omg_lightning.training import Agent
from omg_lightning.types import Batch, ConfigError, Episodes


class GoalPictures(Callback):
    """Draws and evaluates the goal codes of the latest episodes.

    Needs the opponent model `Subgoal`, and must come after `BufferRefresh` in the list of callbacks. The figure
    `figures/goals` appears among TensorBoard's images every few epochs and in the last one. Each epoch logs, over all
    observations of co-players: `goal/recall_<kind>` and `goal/precision_<kind>` for each kind of plane (`self`,
    `other`, `stags`, ...), `goal/active_units`, `goal/collapsed` (1, with a warning, if no dimension of the code is
    active) and `goal/hit_ratio` of the inferred subgoals. `goal/hit_ratio_selected`, logged with the figure, is the hit
    ratio of the subgoals selected in hindsight: an upper bound, which is small for a rule that repeats one state. Games
    that are not on a grid have no figure, and only `goal/active_units` and `goal/collapsed`.

    Args:
        every: epochs between figures.
        examples: rows of the figure, each from another episode.
    """

    def __init__(self, every: int = 10, examples: int = 4) -> None:
        if every < 1 or examples < 1:
            raise ConfigError(f"GoalPictures(every={every}, examples={examples}): both must be at least 1")
        self.every, self.examples, self._warned = every, examples, False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line if there will be no figure."""
        if _subgoal(pl_module) is None:
            rank_zero_info("GoalPictures draws nothing: this opponent model has no latent goal codes; Subgoal has")

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metrics, and add the figure every few epochs."""
        data, opponent = trainer.datamodule, _subgoal(pl_module)  # type: ignore[attr-defined]
        if opponent is None or data.latest is None:
            return
        assert isinstance(pl_module, Agent)
        layout, episodes = pl_module.game.layout, data.latest.episodes
        numbers = code_numbers(opponent, episodes)
        epoch = trainer.current_epoch + 1
        due = layout is not None and (epoch % self.every == 0 or epoch == trainer.max_epochs)
        if due:
            label, ahead = selected(pl_module, opponent, data)
            numbers["goal/hit_ratio_selected"] = named(opponent, label, episodes)
        means = ranks.mean(numbers)
        pl_module.log_dict(means, on_step=False, on_epoch=True, batch_size=1)
        if means["goal/collapsed"] and not self._warned:
            rank_zero_warn("goal/collapsed: all codes of the state VAE are equal; lower model.opponent.vae.kl_weight")
            self._warned = True
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if boards and trainer.is_global_zero and due and layout is not None:
            rows = draw_examples(opponent, data, ahead, self.examples)
            figure = goal_figure(rows, layout.plane_names, column_titles(opponent, data))
            for logger in boards:
                logger.experiment.add_figure("figures/goals", figure, data.env_steps)


def _subgoal(pl_module: LightningModule) -> Subgoal | None:
    opponent = pl_module.opponent if isinstance(pl_module, Agent) else None
    return opponent if isinstance(opponent, Subgoal) else None


@torch.no_grad()
def code_numbers(opponent: Subgoal, episodes: Episodes) -> dict[str, Tensor]:
    """Return the metrics of the codes over all views of co-players in these episodes, by the names in the log.

    `goal/hit_ratio` is for the subgoals inferred when the episodes were played.
    """
    views = episodes.observation[watched(episodes)].float()
    mean, _ = opponent.vae.codes(views)
    units = active_units(mean).float()
    numbers = {"goal/active_units": units, "goal/collapsed": (units == 0).float()}
    layout = opponent.spec.game.layout
    if layout is None:
        return numbers
    logits = opponent.vae.decoder(mean)
    recall, precision = (measure(logits, views, layout.plane_names) for measure in (plane_recall, plane_precision))
    return {
        **{f"goal/recall_{kind}": share for kind, share in recall.items()},
        **{f"goal/precision_{kind}": share for kind, share in precision.items() if kind in recall},  # that occur
        **numbers,
        "goal/hit_ratio": named(opponent, episodes.goal, episodes),
    }


def named(opponent: Subgoal, goals: Tensor, episodes: Episodes) -> Tensor:
    """Return the hit ratio of co-players' subgoals `[T, B, P, D]`, see `hit_ratio`."""
    who = watched(episodes)
    pictures = torch.zeros_like(episodes.observation, dtype=torch.bool)
    pictures[who] = decided(opponent.vae.decoder(goals[who]))
    return hit_ratio(pictures, episodes.observation > 0, who)


def draw_examples(opponent: Subgoal, data: EpisodeDataModule, ahead: Tensor, count: int) -> list[Example]:
    """Sample steps of co-players that have a next step, each from another of the latest episodes.

    `ahead`, int64 `[T, B, P]`, says how many steps later the subgoal of a step came, see `selected`.

    The function has its own random generator: pictures do not change a run.
    """
    assert data.latest is not None
    episodes, random = data.latest.episodes, torch.Generator().manual_seed(data.env_steps)
    usable = watched(episodes).cpu()
    usable[:-1] &= episodes.active[1:].cpu()
    usable[-1] = False
    examples: list[Example] = []
    for b in torch.randperm(usable.shape[1], generator=random).tolist():
        steps = usable[:, b].nonzero().tolist()  # [t, j]
        if steps and len(examples) < count:
            t, seat = steps[int(torch.randint(len(steps), (1,), generator=random))]
            view, later = episodes.observation[t, b, seat], int(ahead[t, b, seat])
            came = episodes.observation[t + later, b, seat]
            code = torch.stack([opponent.vae.encode(view[None].float())[0][0], episodes.goal[t, b, seat]])
            cells, absent = probabilities(opponent.vae.decoder(code))
            pictures = (
                true_picture(view, absent),
                Picture(cells[0], absent[0]),
                Picture(cells[1], absent[1]),
                true_picture(came, absent),
            )
            name = "" if data.latest_offline else f"\n{data.seats[seat]}"
            examples.append(Example(f"seat {seat}{name}\nepisode {b}, t = {t}", seat, pictures, later))
    return examples


def selected(agent: Agent, opponent: Subgoal, data: EpisodeDataModule) -> tuple[Tensor, Tensor]:
    """Return the subgoal of each step of the latest episodes in hindsight.

    Returns:
        Its code, float `[T, B, P, D]`, and how many steps ahead it lies, int64 `[T, B, P]`.
    """
    assert data.latest is not None
    random = torch.Generator(agent.device).manual_seed(data.env_steps)
    batch = agent.training_batch(Batch(data.latest.episodes, data.env_steps, data.latest_offline), random)
    codes = batch.samples.spread(opponent.codes(batch.samples.observation))
    ahead = select_subgoals(batch, codes, batch.episodes.goal, opponent.selector, random)
    return shift(codes, ahead), ahead


def column_titles(opponent: Subgoal, data: EpisodeDataModule) -> tuple[str, str, str, str]:
    """Titles of the four columns; without a trained value the selector samples at random."""
    rule = opponent.selector.rule
    if data.latest_offline and rule in ("optimistic", "conservative"):
        rule = "random"
    return (
        "true view of a\nco-player at step t",
        "the same, decoded\nfrom its VAE code",
        "its subgoal, inferred\nat step t, decoded",
        f"the true subgoal, selected\nin hindsight ({rule},\nup to {opponent.selector.horizon} steps later)",
    )
