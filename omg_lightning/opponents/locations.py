"""Declared goals as cells: a player's target cell, and the number of cells it will still clear (HOP's Snowdrift)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.encoders import ModelSpec
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.opponents.base import BeliefView, MixtureConfig, Targets
from omg_lightning.opponents.belief import bayes_update, draw_one_hot
from omg_lightning.opponents.explicit import BeliefConfig, ExplicitBelief, one_hot_targets
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Estimate, View

_CHANGES = TransitionConfig(at_events=True)
HEADINGS = ("heads for one", "nowhere")  # summary of a belief over cells, for figures


class Heading(NamedTuple):
    """The belief about each seat within an episode; leading L."""

    belief: Tensor  # float [L, P, S + 1] target cell, also of cells that are empty by now, or nowhere
    number: Tensor  # float [L, P, N + 1] prior of how many cells it clears in this episode
    cleared: Tensor  # int64 [L, P] number of cells it has cleared so far


class Locations(ExplicitBelief):
    """A belief over the cell that each player heads for, and over the number of cells that it clears.

    Goals are objects on a grid. A drift stays if each of two players expects the other to clear it, so the belief
    covers two questions: whether a player clears another cell, and which one. A player clears n cells in an episode.
    The prior over n carries over between episodes (HOP, ICML 2024: Poisson(1) at first, smoothed by `alpha`). After `c`
    cells it heads for another one with probability `P(n > c | n >= c)`, uniform over the remaining cells. Its actions
    update the belief by Bayes' rule. A goal vector of length `S + 1` is a one-hot of the cell, with a last entry for
    nowhere.

    Args:
        spec: description of the game, and the networks.
        belief: settings of the belief.
        online: train the co-player policies in the online phase, too.
        mixture: how often the policy trains on goals in hindsight.
        transition: how goals change in search trees. In the belief a player whose cell is empty always heads for
            another one.

    Raises:
        ConfigError: the game is not on a grid, its goals are not objects in cells, the floor is too large, or goals
            leak.
    """

    goals_are_cells = True

    def __init__(
        self,
        spec: ModelSpec,
        belief: BeliefConfig = BeliefConfig(),
        online: bool = True,
        mixture: MixtureConfig = MixtureConfig(),
        transition: TransitionConfig = TransitionConfig(),
    ) -> None:
        layout, name = spec.game.layout, spec.game.name
        if layout is None or not (layout.shows_goals or layout.goal_action is not None) or not spec.game.goal_names:
            raise ConfigError(
                f"opponent Locations needs goals that are objects in cells of a grid, but {name} has none: "
                "use Declared, Codebook or Direct"
            )
        if belief.kinds.count:
            raise ConfigError(
                f"belief.kinds.count is {belief.kinds.count}: Locations has a prior over the number of cleared cells "
                "instead of kinds; set it to 0, or use Declared or Codebook"
            )
        if transition.leak:
            raise ConfigError(
                f"transition.leak is {transition.leak}: Locations changes goals at events alone; set it to 0, or use "
                "Declared or Codebook"
            )
        most = len(spec.game.goal_names)
        super().__init__(spec, layout.cells + 1, belief, online, mixture, most + 1, transition)
        self.most = most  # N
        self.layout: GridLayout = layout

    def prior(self, batch_size: int) -> Tensor:
        """Return the prior over the number of cleared cells: Poisson(1) up to N, float `[B, P, N + 1]`."""
        weight = torch.tensor([1 / math.factorial(n) for n in range(self.most + 1)], device=self.device)
        return (weight / weight.sum()).expand(batch_size, self.spec.game.num_players, self.most + 1).clone()

    def start(self, prior: Tensor, true_goal: Tensor) -> Heading:  # type: ignore[override]
        """Start uniform over cells; `prior` is `[B, P, N + 1]`, `true_goal` is not used."""
        cleared = torch.zeros(prior.shape[:2], dtype=torch.int64, device=prior.device)
        return Heading(self._fresh(prior, cleared), prior, cleared)

    def infer(self, memory: Heading, view: View) -> Estimate:  # type: ignore[override]
        """Return the belief over cells with an object and nowhere, `[L, P, S + 1]`, and samples from it."""
        belief = self._now(memory, view)
        return Estimate(belief, lambda trees, generator: draw_one_hot(belief, trees, generator))

    def update(self, memory: Heading, view: View, actions: Tensor, achieved: Tensor) -> Heading:  # type: ignore[override]
        """Update the belief by the actions `[L, P]`; a player that has cleared a cell gets a new goal, or none."""
        done = (achieved != NO_GOAL) & view.active
        cleared = memory.cleared + done
        belief = self._now(memory, view)
        if self.belief.intra:
            belief = bayes_update(belief.log(), self.likelihood(view, actions), 0.0).exp()
        belief = torch.where(done[..., None], self._fresh(memory.number, cleared), belief)
        return Heading(torch.where(view.active[..., None], belief, memory.belief), memory.number, cleared)

    def next_goal(self, goal: Tensor, view: View, achieved: Tensor, generator: torch.Generator) -> Tensor:
        """Sample goals `[L, P, S + 1]` after a step of a search.

        A player that has cleared a cell heads for another one with the probability of a player of whom nothing is known
        and that has cleared one, since trees do not count; a player whose cell was cleared heads for another one.
        """
        possible, done = self.possible(view.observation, view.active), achieved != NO_GOAL
        another = one_more(self.prior(1)[0, 0], torch.ones((), dtype=torch.int64, device=goal.device))
        share = torch.where(done & possible[..., :-1].any(-1), another, (~done).float())[..., None]
        other = _alike(possible[..., :-1])
        fresh = torch.cat([share * other, 1 - share * other.sum(-1, keepdim=True)], -1)
        return self.transition.draw(goal, fresh, possible, done, generator)

    def possible(self, observation: Tensor, active: Tensor) -> Tensor:
        """Return the cells that hold an object, and nowhere, bool `[..., P, S + 1]`."""
        there = (observation[..., self.layout.things, :, :] > 0).any(-3).flatten(-2)
        return torch.cat([there, torch.ones_like(there[..., :1])], -1)

    def achieved(self, episodes: Episodes) -> Tensor:
        """Return how many cells each seat cleared in whole episodes, int64 `[B, P]`."""
        return ((episodes.achieved_goal != NO_GOAL) & episodes.active).sum(0).clamp(max=self.most)

    def targets(self, batch: TrainingBatch) -> Targets:
        """Label each step with the cell where its seat next achieves a goal, or nowhere."""
        label = location_labels(batch.episodes, batch.noise, self.layout)
        return one_hot_targets(batch.episodes, label, batch.noise, self.mixture.share(batch.env_steps))

    def metrics(self, goal_names: Sequence[str]) -> dict[str, Metric]:
        """Return no metrics: scripts report goals by index, and this belief is over cells."""
        return {}

    def belief_view(self, goal: Tensor, goal_names: Sequence[str]) -> BeliefView:
        """Return the probability that a player heads for any cell: a figure cannot show all cells."""
        return BeliefView(torch.stack([goal[..., :-1].sum(-1), goal[..., -1]], -1), HEADINGS)

    def _fresh(self, number: Tensor, cleared: Tensor) -> Tensor:
        """Return the belief `[..., S + 1]` about a player directly after it has cleared a number of cells."""
        another = one_more(number, cleared)[..., None]
        each = (another / (self.size - 1)).expand(*cleared.shape, self.size - 1)
        return torch.cat([each, 1 - another], -1)

    def _now(self, memory: Heading, view: View) -> Tensor:
        """Return the belief restricted to cells that still hold an object, renormalised over these cells."""
        possible = self.possible(view.observation, view.active)
        fresh = F.pad(_alike(possible[..., :-1]), (0, 1))
        full = _CHANGES.filter(memory.belief, fresh, possible, torch.zeros_like(view.active))
        full = full / full.sum(-1, keepdim=True).clamp(min=torch.finfo(full.dtype).tiny)
        floor = self.belief.floor * possible  # remaining goals keep the smallest probability
        return floor + (1 - floor.sum(-1, keepdim=True)) * full


def _alike(there: Tensor) -> Tensor:
    """Return the uniform distribution over the cells with an object, bool `[..., S]`; 0 if there is none."""
    return there / there.sum(-1, keepdim=True).clamp(min=1)


def one_more(number: Tensor, cleared: Tensor) -> Tensor:
    """Return the probability of another cell after `cleared` ones: `P(n > c | n >= c)`, float `[...]`.

    Args:
        number: float `[..., N + 1]` probabilities of n = 0 .. N.
        cleared: int64 `[...]` c; at N and above the probability is 0.
    """
    tail = number.flip(-1).cumsum(-1).flip(-1)  # P(n >= k)
    tail = torch.cat([tail, torch.zeros_like(tail[..., :1])], -1)
    c = cleared.clamp(max=number.shape[-1] - 1)[..., None]
    return (tail.gather(-1, c + 1) / tail.gather(-1, c).clamp(min=torch.finfo(tail.dtype).tiny))[..., 0]


def location_labels(episodes: Episodes, noise: torch.Generator, layout: GridLayout) -> Tensor:
    """Return the target cell of each seat: the cell of the goal that it achieves next, or S for nowhere.

    The observation shows the cell of a goal; otherwise it is the cell of the player that achieves it.

    A tree without a transition keeps its goal after the cell is empty, and an empty cell means no goal. The networks
    learn this from labels: half of the players without a target are labelled with an empty cell.

    Args:
        episodes: `[T, B, P, ...]`.
        noise: samples these labels.
        layout: of the observations.

    Returns:
        int64 `[T, B, P]`; arbitrary for padding.
    """
    shown = episodes.observation.flatten(4) > 0  # [T, B, P, C, S]
    own, bare = shown[..., 0, :].long().argmax(-1), ~shown[..., layout.things, :].any(3)
    if layout.shows_goals:
        places = layout.goal_cells(episodes.observation)  # [T, B, P, G]
        own = places.gather(-1, episodes.achieved_goal.clamp(min=0)[..., None])[..., 0]
    label = torch.full_like(own, shown.shape[-1])
    following = label[0]
    for t in reversed(range(len(label))):
        following = torch.where((episodes.achieved_goal[t] != NO_GOAL) & episodes.active[t], own[t], following)
        label[t] = following
    idle = (label == shown.shape[-1]) & episodes.active & bare.any(-1)
    # Draw numbers for real steps only, so that they do not depend on the padding.
    idle[idle.clone()] = torch.rand(int(idle.sum()), generator=noise, device=bare.device) < 0.5
    cells = bare[idle]  # [n, S]
    label[idle] = torch.rand(cells.shape, generator=noise, device=bare.device).masked_fill_(~cells, -1).argmax(-1)
    return label
