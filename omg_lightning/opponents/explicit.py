"""An explicit belief over finitely many goals: the common base of declared and learned goals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import next_achieved, one_hot_goals, watched
from omg_lightning.metrics.belief import BeliefMetrics
from omg_lightning.opponents.base import BeliefView, MixtureConfig, OpponentModel, Targets
from omg_lightning.opponents.belief import bayes_update, draw_one_hot, floored, smooth_prior
from omg_lightning.opponents.smoothing import Evidence, drawn_goals
from omg_lightning.opponents.transition import TransitionConfig, goals_there, shared_out
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Estimate, View

Labels = Literal["hindsight", "completed", "belief", "smoothing"]


@dataclass(frozen=True)
class BeliefConfig:
    """How an explicit belief is updated.

    Args:
        intra: update within an episode, at every step (HOP's intra-OM).
        inter: update the prior between episodes (HOP's inter-OM).
        alpha: smoothing of the prior; 0.995 in Stag-Hunt, 0.98 in Snowdrift as published.
        floor: no goal's probability falls below it.
        labels: which goals the co-player policies are trained under; not for `Locations`. `hindsight`: the goal that is
            achieved next, so steps after which nothing is achieved teach nothing. `completed` (default): these learn
            under goals drawn from the last belief of the episode. `belief`: in the online phase, goals drawn from the
            belief of each step, and none in hindsight. Choose it where what is achieved next tells the action itself,
            as in matrix games: in hindsight nothing but the goal then seems to matter. `smoothing`: goals drawn from
            the posterior of each step, given the whole episode, see `omg_lightning.opponents.smoothing`. Choose it
            where goals change: what is achieved next may not be what was pursued, where somebody else took that.
    """

    intra: bool = True
    inter: bool = True
    alpha: float = 0.995
    floor: float = 1e-3
    labels: Labels = "completed"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"belief.alpha is {self.alpha}: it must lie between 0 and 1")
        if not 0 <= self.floor < 0.5:
            raise ConfigError(f"belief.floor is {self.floor}: it must be at least 0 and less than 0.5")
        if self.labels not in get_args(Labels):
            raise ConfigError(f"belief.labels is {self.labels!r}: expected one of {', '.join(get_args(Labels))}")


class Filter(NamedTuple):
    """What is believed of each seat within an episode; leading L."""

    log_belief: Tensor  # float [L, P, G] after the actions seen so far
    prior: Tensor  # float [L, P, G] at the start of the episode
    event: Tensor  # bool [L, P] the seat has achieved a goal by the last step


class ExplicitBelief(OpponentModel):
    """A hidden Markov filter over one-hot goals: a prior, a transition, and the co-player policies as emission.

    A subclass says which goals there are: `achieved` in whole episodes, and `targets`.

    Args:
        spec: the game and the networks.
        size: G.
        belief: how the filter's prior and emission are used.
        online: go on training the co-player policies in the online phase.
        mixture: how often the policy is trained on goals in hindsight.
        most: goals that can be possible at once; by default all.
        transition: how goals change within an episode, in the belief and in the trees of a search alike.

    Raises:
        ConfigError: the floor leaves no room for a belief.
    """

    def __init__(
        self,
        spec: ModelSpec,
        size: int,
        belief: BeliefConfig = BeliefConfig(),
        online: bool = True,
        mixture: MixtureConfig = MixtureConfig(),
        most: int | None = None,
        transition: TransitionConfig = TransitionConfig(),
    ) -> None:
        count = size if most is None else most
        if belief.floor * count >= 1:
            raise ConfigError(f"belief.floor is {belief.floor}: with {count} goals it must be less than 1/{count}")
        super().__init__(spec, size, online, mixture)
        self.belief, self.transition = belief, transition
        self.goals_change = transition.changes

    def prior(self, batch_size: int) -> Tensor:
        """Return the uniform belief, float `[B, P, G]`."""
        return torch.full((batch_size, self.spec.game.num_players, self.size), 1 / self.size, device=self.device)

    def start(self, prior: Tensor, true_goal: Tensor) -> Filter:
        """Start the belief at the prior `[B, P, G]`, no goal below the floor; `true_goal` is not looked at."""
        return Filter(
            self.alive(prior).log(), prior, torch.zeros(prior.shape[:-1], dtype=torch.bool, device=prior.device)
        )

    def infer(self, memory: Filter, view: View) -> Estimate:
        """Return the belief `[L, P, G]`, and goals drawn from it."""
        belief = self.current(memory, view)
        return Estimate(belief, lambda trees, generator: draw_one_hot(belief, trees, generator))

    def current(self, memory: Filter, view: View) -> Tensor:
        """Return the belief `[L, P, G]` at the view after the last step: goals may have changed by then."""
        belief = memory.log_belief.softmax(-1)
        if not self.transition.changes:
            return belief
        possible = self.possible(view.observation, view.active)
        event = memory.event | self.event(view)
        return self.alive(self.transition.filter(belief, shared_out(memory.prior, possible), possible, event))

    def update(self, memory: Filter, view: View, actions: Tensor, achieved: Tensor) -> Filter:
        """Apply Bayes to the actions `[L, P]` of seats that still play."""
        log_belief = self.current(memory, view).log() if self.transition.changes else memory.log_belief
        if self.belief.intra:
            likelihood = self.predictor.likelihood(view, actions)
            posterior = self.alive(bayes_update(log_belief, likelihood, 0.0).exp()).log()
            log_belief = torch.where(view.active[..., None], posterior, log_belief)
        return Filter(log_belief, memory.prior, (achieved != NO_GOAL) & view.active)

    def next_goal(self, goal: Tensor, view: View, achieved: Tensor, generator: torch.Generator) -> Tensor:
        """Draw goals `[L, P, G]` after a step from the same transition; a new one by how common it is."""
        possible = self.possible(view.observation, view.active)
        event = (achieved != NO_GOAL) | self.event(view)
        return self.transition.draw(goal, shared_out(self.common(), possible), possible, event, generator)

    def possible(self, observation: Tensor, active: Tensor) -> Tensor:
        """Return which goals are still there, bool `[..., P, G]`, by views `[..., P, *shape]`; see `goals_there`."""
        return goals_there(observation, active, self.spec.game.layout, self.size)

    def event(self, view: View) -> Tensor:
        """Return who has achieved a goal by the step that led to this view, bool `[L, P]`, where no game says it."""
        return torch.zeros_like(view.active)

    def common(self) -> Tensor:
        """Return how common goals are, float `[G]`, up to a factor; by default all alike."""
        return torch.ones(self.size, device=self.device)

    def achieved(self, episodes: Episodes) -> Tensor:
        """Return the goal that each seat achieved last in whole episodes, int64 `[B, P]`, or NO_GOAL."""
        raise NotImplementedError

    def carry(self, prior: Tensor, episodes: Episodes) -> Tensor:
        """Smooth the goals achieved in `episodes` into the prior `[B, P, G]`."""
        return smooth_prior(prior, self.achieved(episodes), self.belief.alpha) if self.belief.inter else prior

    def alive(self, belief: Tensor) -> Tensor:
        """Return a belief `[..., G]` in which no goal is below the floor."""
        return floored(belief, self.belief.floor)

    def label_targets(self, batch: TrainingBatch, achieved: Tensor) -> Targets:
        """Return one-hot targets in hindsight, or by belief: see `BeliefConfig.labels`.

        The inferred goal is one drawn from the belief when acting, as each tree of a search draws it.

        Args:
            batch: the episodes.
            achieved: int64 `[T, B, P]` the goal that each step achieved, or NO_GOAL.
        """
        episodes, noise = batch.episodes, batch.noise
        if self.belief.labels == "belief" and not batch.offline:  # offline nobody watches, so there is no belief
            drawn = inferred_goals(episodes, noise)
            return Targets(drawn, drawn, drawn.sum(-1) > 0)
        if self.belief.labels == "smoothing":
            goal = self.smoothed(batch, achieved)
        else:
            goal = next_achieved(achieved, episodes.active)
            if self.belief.labels != "hindsight":
                goal = completed(episodes, goal, noise)
        return one_hot_targets(episodes, goal, noise, self.mixture.share(batch.env_steps))

    @torch.no_grad()
    def smoothed(self, batch: TrainingBatch, achieved: Tensor) -> Tensor:
        """Draw what each watched seat pursued at each step, int64 `[T, B, P]`; see `drawn_goals`."""
        episodes, samples = batch.episodes, batch.samples
        who = watched(episodes)
        rows, seat = who[samples.mask], who.nonzero()[:, 2]
        each = self.predictor.under_each_goal(batch.view[rows], samples.time[rows], seat, episodes.legal[who])
        log_likelihood = torch.zeros(*who.shape, self.size, device=who.device)
        log_likelihood[who] = each.gather(-1, episodes.action[who][:, None, None].expand(-1, self.size, 1))[..., 0]
        possible = self.possible(episodes.observation, episodes.active)
        fresh = shared_out(self.common(), possible)
        begun = torch.where(episodes.active[0][..., None], episodes.goal[0], 0.0)  # believed then; 0 without a learner
        prior = torch.where(begun.sum(-1, keepdim=True) > 0, begun, fresh[0])
        evidence = Evidence(log_likelihood, achieved, who, possible, fresh)
        return drawn_goals(evidence, prior, replace(self.transition, at_events=True), batch.noise)

    def forecast(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor, goal: Tensor) -> Tensor:
        """Return log probabilities `[m, A]`: the policies under each goal, mixed by the belief `goal` `[m, G]`."""
        return self.predictor.mixture(observation, time, seat, legal, goal)

    def metrics(self, goal_names: Sequence[str]) -> dict[str, Metric]:
        """Return what the belief says of the scripts' true goals, where the game declares any."""
        if not goal_names:
            return {}
        return {"belief": BeliefMetrics(len(goal_names), self.size, self.named, self.spec.game.max_steps)}

    named: bool = True  # the belief is over the declared goals

    def belief_view(self, goal: Tensor, goal_names: Sequence[str]) -> BeliefView | None:
        """Return the belief `[..., G]`, over the declared goals or over codes."""
        return BeliefView(goal, tuple(goal_names) if self.named else None)


def one_hot_targets(episodes: Episodes, goal: Tensor, generator: torch.Generator, share: float) -> Targets:
    """Return one-hot targets for goals `[T, B, P]` (NO_GOAL where unknown); inferred ones are drawn from the belief."""
    label = one_hot_goals(goal, episodes.goal.shape[-1])
    return Targets(inferred_goals(episodes, generator), label, goal != NO_GOAL, share)


def inferred_goals(episodes: Episodes, generator: torch.Generator) -> Tensor:
    """Draw one-hot goals `[T, B, P, G]` from the recorded belief of each step; 0 where there was none."""
    belief = torch.where(episodes.active[..., None], episodes.goal, 0.0).flatten(0, 2)
    there = belief.sum(-1) > 0
    drawn = torch.zeros_like(belief)
    if there.any():
        index = torch.multinomial(belief[there], 1, generator=generator)[:, 0]
        drawn[there] = one_hot_goals(index, belief.shape[-1])
    return drawn.view_as(episodes.goal)


def completed(episodes: Episodes, goal: Tensor, generator: torch.Generator) -> Tensor:
    """Label steps after which nothing is achieved any more by a draw from the seat's last belief of the episode.

    Idle players still have a goal: a stag hunter without a stag still is one. This is the E-step of a mixture of
    goal-conditioned policies, with the belief as responsibilities, where hindsight has no answer.

    Args:
        episodes: `[T, B, P, ...]`.
        goal: int64 `[T, B, P]` of `next_achieved`.
        generator: draws them, one for each seat of an episode.

    Returns:
        int64 `[T, B, P]`; NO_GOAL is left for padding, and where there was no belief.
    """
    last = (episodes.active.long().sum(0) - 1).clamp(min=0)  # seats are active from the start until they leave
    belief = episodes.goal.gather(0, last[None, ..., None].expand(1, *episodes.goal.shape[1:]))[0]
    there = belief.sum(-1) > 0
    drawn = torch.full_like(last, NO_GOAL)
    if there.any():
        drawn[there] = torch.multinomial(belief[there], 1, generator=generator)[:, 0]
    return torch.where((goal == NO_GOAL) & episodes.active, drawn, goal)
