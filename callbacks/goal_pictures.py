"""What the goal codes say, as pictures: the true view, the decoded view, the decoded subgoal, and what came."""

from collections.abc import Sequence

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from callbacks.view_figure import Example, Picture, goal_figure, true_picture
from omg_lightning.data import EpisodeDataModule
from omg_lightning.opponents.quality import (
    active_units,
    decided,
    hit_ratio,
    plane_precision,
    plane_recall,
    probabilities,
)
from omg_lightning.training import Agent, GoalVAE
from omg_lightning.opponents.targets import latent, watched
from omg_lightning.samples import flatten
from omg_lightning.types import ConfigError, Episodes


class GoalPictures(Callback):
    """Shows and measures the goal codes of the latest episodes. Needs an agent with `goals: subgoal`.

    The figure `figures/goals` goes to TensorBoard's images every few epochs and in the last one. Logged at every
    epoch, over all views of co-players: `goal/recall_<kind>` and `goal/precision_<kind>` for each kind of plane
    (`self`, `other`, `stags`, ...), `goal/active_units`, `goal/collapsed` (1, and a warning, where no dimension of the
    code carries anything) and `goal/hit_ratio` of the subgoals inferred in play. `goal/hit_ratio_selected`, logged with
    the figure, is that of the subgoals selected in hindsight, which an inference has that always finds them; a rule
    that selects one state again and again has little. Must stand after `BufferRefresh` in the list of callbacks.

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
        epoch = trainer.current_epoch + 1
        due = epoch % self.every == 0 or epoch == trainer.max_epochs
        if due:
            label, ahead = selected(pl_module, data)
            numbers["goal/hit_ratio_selected"] = named(pl_module.vae, label, data.latest.episodes)
        pl_module.log_dict(numbers, on_step=False, on_epoch=True, batch_size=1)
        if numbers["goal/collapsed"] and not self._warned:
            rank_zero_warn("goal/collapsed: every code of the state VAE is the same; lower model.vae.kl_weight")
            self._warned = True
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if boards and trainer.is_global_zero and due:
            rows, titles = draw_examples(pl_module, data, ahead, self.examples), column_titles(pl_module, data)
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
    units = active_units(mean).float()
    return {
        **{f"goal/recall_{kind}": share for kind, share in recall.items()},
        **{f"goal/precision_{kind}": share for kind, share in precision.items() if kind in recall},  # what there is
        "goal/active_units": units,
        "goal/collapsed": (units == 0).float(),
        "goal/hit_ratio": named(vae, episodes.goal, episodes),
    }


def named(vae: GoalVAE, goals: Tensor, episodes: Episodes) -> Tensor:
    """The hit ratio of co-players' subgoals `[T, B, P, D]`, see `hit_ratio`."""
    who = watched(episodes)
    pictures = torch.zeros_like(episodes.observation, dtype=torch.bool)
    pictures[who] = decided(vae.decode(goals[who]))
    return hit_ratio(pictures, episodes.observation > 0, who)


def draw_examples(agent: Agent, data: EpisodeDataModule, ahead: Tensor, count: int) -> list[Example]:
    """Draws steps of co-players that have a next step, each from another of the latest episodes.

    `ahead`, int64 `[T, B, P]`, says how many steps later the subgoal of a step came, see `selected`.

    The randomness is this function's own: a run with pictures goes like one without.
    """
    assert agent.vae is not None
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
            code = torch.stack([agent.vae.encode(view[None].float())[0][0], episodes.goal[t, b, seat]])
            cells, absent = probabilities(agent.vae.decode(code))
            pictures = (
                true_picture(view, absent),
                Picture(cells[0], absent[0]),
                Picture(cells[1], absent[1]),
                true_picture(came, absent),
            )
            name = "" if data.rounds <= data.offline_rounds else f"\n{data.seats[seat]}"
            examples.append(Example(f"seat {seat}{name}\nepisode {b}, t = {t}", seat, pictures, later))
    return examples


def selected(agent: Agent, data: EpisodeDataModule) -> tuple[Tensor, Tensor]:
    """The subgoal of each step of the latest episodes in hindsight.

    Returns:
        Its code, float `[T, B, P, D]`, and how many steps ahead it lies, int64 `[T, B, P]`.
    """
    assert agent.vae is not None
    assert data.latest is not None
    episodes, rule = data.latest.episodes, agent.selector
    samples = flatten(episodes, agent.max_steps)
    codes = samples.spread(agent.vae.codes(samples.observation)[0])
    values = None if data.rounds <= data.offline_rounds else agent.policy.goal_values
    random = torch.Generator(codes.device).manual_seed(data.env_steps)
    hindsight, ahead = latent(
        episodes,
        samples,
        codes,
        episodes.goal,
        values,
        rule.rule,
        rule.horizon,
        random,
        rule.offset,
        rule.temperature,
    )
    return hindsight.label, ahead


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
