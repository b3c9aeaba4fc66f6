"""The goal sources behind the switch `goals`: what co-player models, policy and search are conditioned on.

| `goals` | goal vector | belief |
|---|---|---|
| `none` | empty | none: direct opponent model |
| `declared` | one-hot of the game's own goals | explicit, Bayes within and across episodes (HOP) |
| `subgoal` | latent code of a future state | implicit, in a recurrent network (OMG, HOP+) |
| `codebook` | one-hot of a learned code | explicit, as for `declared`, on codes that were never labelled |
| `oracle` | one-hot of the script's true goal | exact: an upper bound for studies |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from omg_lightning.goals.belief import inter, intra, keep_alive
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Estimate, View

GoalKind = Literal["none", "declared", "subgoal", "codebook", "oracle"]
Likelihood = Callable[[View, Tensor], Tensor]  # view, actions [L, P] -> log pi_j(a_j | o_j, t, g) [L, P, G]


@dataclass(frozen=True)
class BeliefConfig:
    """How an explicit belief is updated.

    Args:
        intra: update within an episode, at every step (HOP's intra-OM).
        inter: update the prior between episodes (HOP's inter-OM).
        alpha: smoothing of the prior; 0.995 in Stag-Hunt, 0.98 in Snowdrift as published.
        floor: no goal's probability falls below it.
    """

    intra: bool = True
    inter: bool = True
    alpha: float = 0.995
    floor: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"belief.alpha is {self.alpha}: it must lie between 0 and 1")
        if not 0 <= self.floor < 0.5:
            raise ConfigError(f"belief.floor is {self.floor}: it must be at least 0 and less than 0.5")


class NoGoals:
    """Goals are left out: vectors of length 0 everywhere."""

    size = 0

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """An empty prior, float `[B, P, 0]`."""
        return torch.zeros(batch, seats, 0, device=device)

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """Memory is the empty prior, float `[B, P, 0]`; `truth` `[B, P]` is not looked at."""
        return prior

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """Empty goals for memory `[L, P, 0]`."""
        return Estimate(memory, lambda trees, generator: memory[:, None].expand(-1, trees, -1, -1))

    def update(self, memory: Tensor, view: View, actions: Tensor) -> Tensor:
        """Nothing is learned from actions `[L, P]`."""
        return memory

    def realised(self, episodes: Episodes) -> Tensor:
        """Nothing is realised: NO_GOAL everywhere, int64 `[B, P]`."""
        return torch.full_like(episodes.realised[0], NO_GOAL)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Nothing is carried over from goals realised `[B, P]`."""
        return prior


class DeclaredGoals:
    """The game's own goals under an explicit belief (HOP, ICML 2024). Memory is the log belief, `[L, P, G]`.

    Args:
        num_goals: G.
        likelihood: log probability of the actions seen, under each goal, by the co-player model.
        config: how the belief is updated.
    """

    def __init__(self, num_goals: int, likelihood: Likelihood, config: BeliefConfig) -> None:
        if config.floor * num_goals >= 1:
            raise ConfigError(
                f"belief.floor is {config.floor}: with {num_goals} goals it must be less than 1/{num_goals}"
            )
        self.size = num_goals
        self.likelihood = likelihood
        self.config = config

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """All goals alike, float `[B, P, G]`."""
        return torch.full((batch, seats, self.size), 1 / self.size, device=device)

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """The belief starts at the prior `[B, P, G]`, no goal below the floor; `truth` `[B, P]` is not looked at."""
        return keep_alive(prior, self.config.floor).log()

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """The belief, and goals drawn from it, for a log belief `[L, P, G]`."""
        belief = memory.softmax(-1)
        return Estimate(belief, lambda trees, generator: draw_one_hot(belief, trees, generator))

    def update(self, memory: Tensor, view: View, actions: Tensor) -> Tensor:
        """Bayes on the actions `[L, P]` of those still playing."""
        if not self.config.intra:
            return memory
        posterior = intra(memory, self.likelihood(view, actions), self.config.floor)
        return torch.where(view.active[..., None], posterior, memory)

    def realised(self, episodes: Episodes) -> Tensor:
        """The goal that the game says was realised last, int64 `[B, P]`."""
        return last_known(episodes.realised)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Smooths goals realised, `[B, P]`, into the prior `[B, P, G]`."""
        return inter(prior, realised, self.config.alpha) if self.config.inter else prior


class CodebookGoals(DeclaredGoals):
    """Learned discrete goals under the same explicit belief as declared ones; no label is ever seen.

    A goal is realised when its seat is rewarded: the code of its view at that step is the goal.

    Args:
        num_codes: G.
        likelihood: log probability of the actions seen, under each code, by the co-player model.
        config: how the belief is updated.
        encode: codes, int64 `[M]`, of views `[M, C, h, w]`.
        in_use: says which codes are in use, bool `[G]`; the others are not believed in at first.
    """

    def __init__(
        self,
        num_codes: int,
        likelihood: Likelihood,
        config: BeliefConfig,
        encode: Callable[[Tensor], Tensor],
        in_use: Tensor,
    ) -> None:
        super().__init__(num_codes, likelihood, config)
        self.encode, self.in_use = encode, in_use

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """All codes in use alike, float `[B, P, G]`."""
        used = self.in_use.float() if self.in_use.any() else torch.ones_like(self.in_use, dtype=torch.float32)
        return (used / used.sum()).expand(batch, seats, self.size).clone()

    def realised(self, episodes: Episodes) -> Tensor:
        """The code where each seat was last rewarded, int64 `[B, P]`."""
        event = rewarded(episodes)
        codes = torch.full_like(episodes.realised, NO_GOAL)
        codes[event] = self.encode(episodes.observation[event].float())
        return last_known(codes)


class OracleGoals(NoGoals):
    """The scripts' true goals: an upper bound. Memory is a one-hot, `[L, P, G]`, all zero where there is none.

    Attributes:
        told: such a source is started anew at each step, since a goal may change within an episode.
    """

    told = True

    def __init__(self, num_goals: int) -> None:
        self.size = num_goals

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """One-hot of the goals `[B, P]` that the scripts pursue."""
        return one_hot_goals(truth, self.size)


class Subgoals:
    """Latent subgoals inferred by a recurrent network (OMG, NeurIPS 2024). Memory is its context, `[L, P, hidden]`.

    Args:
        size: D, length of the latent code.
        context: gives the empty context, `[B, P, hidden]`, for B environments and P seats on a device.
        posterior: memory, view -> mean and log variance `[L, P, D]` of each seat's subgoal.
        advance: memory, view, actions -> the next memory.
    """

    def __init__(
        self,
        size: int,
        context: Callable[[int, int, torch.device], Tensor],
        posterior: Callable[[Tensor, View], tuple[Tensor, Tensor]],
        advance: Callable[[Tensor, View, Tensor], Tensor],
    ) -> None:
        self.size = size
        self._context, self._posterior, self._advance = context, posterior, advance

    def prior(self, batch: int, seats: int, device: torch.device) -> Tensor:
        """No prior is carried: float `[B, P, 0]`."""
        return torch.zeros(batch, seats, 0, device=device)

    def start(self, prior: Tensor, truth: Tensor) -> Tensor:
        """The context starts afresh with each episode, `[B, P, hidden]`."""
        return self._context(prior.shape[0], prior.shape[1], prior.device)

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """The posterior's mean, and codes drawn from the posterior, given the context `[L, P, hidden]`."""
        mean, log_var = self._posterior(memory, view)

        def draw(trees: int, generator: torch.Generator) -> Tensor:
            shape = (mean.shape[0], trees, *mean.shape[1:])
            noise = torch.randn(shape, generator=generator, device=mean.device)
            return mean[:, None] + (0.5 * log_var[:, None]).exp() * noise

        return Estimate(mean, draw)

    def update(self, memory: Tensor, view: View, actions: Tensor) -> Tensor:
        """The context moves on by the view and all actions, `[L, P]`."""
        return self._advance(memory, view, actions)

    def realised(self, episodes: Episodes) -> Tensor:
        """Nothing is realised: NO_GOAL everywhere, int64 `[B, P]`."""
        return torch.full_like(episodes.realised[0], NO_GOAL)

    def carry(self, prior: Tensor, realised: Tensor) -> Tensor:
        """Nothing is carried over from goals realised `[B, P]`."""
        return prior


def rewarded(episodes: Episodes) -> Tensor:
    """Steps at which a seat was rewarded for what it did where it was: bool `[T, B, P]`.

    Where everybody gains from what one has done, the one who has done it stands on something (in Snowdrift on the drift
    that it removes). So if some of those who are rewarded at a step stand on something, it is they alone.
    """
    paid = (episodes.reward != 0) & episodes.active
    seats = paid.shape[-1]
    own, things = episodes.observation[..., :1, :, :] > 0, episodes.observation[..., seats:, :, :] > 0
    theirs = paid & (own & things).flatten(3).any(-1)
    return torch.where(theirs.any(-1, keepdim=True), theirs, paid)


def last_known(goal: Tensor) -> Tensor:
    """The last goal of each episode that is not NO_GOAL: int64 `[B, P]` of `[T, B, P]`; NO_GOAL where there is none."""
    last = torch.full_like(goal[0], NO_GOAL)
    for step in goal:
        last = torch.where(step != NO_GOAL, step, last)
    return last


def one_hot_goals(goal: Tensor, num_goals: int) -> Tensor:
    """One-hot vectors, float `[..., G]`, of goals `[...]`; all zero for NO_GOAL."""
    known = (goal != NO_GOAL)[..., None]
    return F.one_hot(goal.clamp(min=0), num_goals).float() * known


def draw_one_hot(belief: Tensor, trees: int, generator: torch.Generator) -> Tensor:
    """Draws one-hot goals `[L, K, P, G]` from beliefs `[L, P, G]`."""
    rows, seats, goals = belief.shape
    index = torch.multinomial(belief.reshape(-1, goals), trees, replacement=True, generator=generator)  # [L*P, K]
    return F.one_hot(index.view(rows, seats, trees).transpose(1, 2), goals).to(belief.dtype)


def hindsight_goals(realised: Tensor, active: Tensor) -> Tensor:
    """Labels each step with the goal its seat realised next, at this step or later in the episode.

    Args:
        realised: int64 `[T, B, P]`, NO_GOAL where nothing was.
        active: bool `[T, B, P]`.

    Returns:
        int64 `[T, B, P]`; NO_GOAL where nothing was realised any more, and for padding.
    """
    label = torch.full_like(realised, NO_GOAL)
    following = label[0].clone()
    for t in reversed(range(realised.shape[0])):
        following = torch.where(active[t] & (realised[t] != NO_GOAL), realised[t], following)
        label[t] = torch.where(active[t], following, NO_GOAL)
    return label
