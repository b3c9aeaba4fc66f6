"""An explicit belief over finitely many goals: the common base of declared and learned goals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import last_achieved, next_achieved, one_hot_goals, watched
from omg_lightning.metrics.belief import BeliefMetrics
from omg_lightning.opponents.base import BeliefView, MixtureConfig, OpponentModel, Targets
from omg_lightning.opponents.belief import bayes_update, draw_one_hot, floored, smooth_prior
from omg_lightning.opponents.kinds import LATER, RECORD, Kinds, KindsConfig
from omg_lightning.opponents.smoothing import Evidence, drawn_goals
from omg_lightning.opponents.transition import TransitionConfig, goals_there, shared_out
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, Estimate, Record, View

Labels = Literal["hindsight", "completed", "belief", "smoothing"]


@dataclass(frozen=True)
class BeliefConfig:
    """Settings of an explicit belief.

    Args:
        intra: update within an episode, at every step (HOP's intra-OM).
        inter: update the prior between episodes (HOP's inter-OM).
        alpha: smoothing of the prior; 0.995 in Stag-Hunt, 0.98 in Snowdrift as published.
        floor: smallest probability of a goal.
        labels: goals on which the co-player policies are conditioned in training; not for `Locations`. `hindsight`: the
            goal that is achieved next; steps without a later event are left out. `completed` (default): such steps get
            a sample from the last belief of the episode. `belief`: in the online phase, samples from the belief of each
            step. Choose it if the goal that is achieved next determines the action, as in matrix games: otherwise the
            policy ignores the observation. `smoothing`: samples from the posterior of each step given the whole
            episode, see `omg_lightning.opponents.smoothing`. Choose it if goals change within an episode: another
            player may have taken the goal that was pursued.
        kinds: kinds of partners, learned without labels, in place of the smoothing by `alpha`.
    """

    intra: bool = True
    inter: bool = True
    alpha: float = 0.995
    floor: float = 1e-3
    labels: Labels = "completed"
    kinds: KindsConfig = field(default_factory=KindsConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"belief.alpha is {self.alpha}: it must lie between 0 and 1")
        if not 0 <= self.floor < 0.5:
            raise ConfigError(f"belief.floor is {self.floor}: it must be at least 0 and less than 0.5")
        if self.labels not in get_args(Labels):
            raise ConfigError(f"belief.labels is {self.labels!r}: expected one of {', '.join(get_args(Labels))}")


class Filter(NamedTuple):
    """The belief about each seat within an episode; leading L."""

    log_belief: Tensor  # float [L, P, G] after the actions seen so far
    fresh: Tensor  # float [L, P, G] of a new goal within the episode; the prior, or as the kinds have it
    event: Tensor  # bool [L, P] whether the seat achieved a goal in the last step
    kinds: Tensor  # float [L, P, K] belief over kinds at the start of the episode; K is 0 without kinds


class ExplicitBelief(OpponentModel):
    """A hidden Markov filter over one-hot goals, with a prior, a transition, and co-player policies as emission model.

    A subclass defines the goals: `achieved` in whole episodes, and `targets`.

    Args:
        spec: description of the game, and the networks.
        size: G, number of goals.
        belief: settings of the belief.
        online: train the co-player policies in the online phase, too.
        mixture: how often the policy trains on goals in hindsight.
        most: largest number of goals that are possible at once; by default all.
        transition: how goals change within an episode, in the belief and in search trees.

    Raises:
        ConfigError: the floor is too large for the number of goals.
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
            raise ConfigError(f"belief.floor is {belief.floor}: it must be less than 1/{count} for {count} goals")
        super().__init__(spec, size, online, mixture)
        self.belief, self.transition = belief, transition
        self.goals_change = transition.changes
        self.kinds = Kinds(belief.kinds, size, transition.at_events) if belief.kinds.count else None

    @property
    def records(self) -> Mapping[str, Record]:  # type: ignore[override]
        """The belief over kinds, where there are kinds."""
        return {} if self.kinds is None else {RECORD: Record((self.belief.kinds.count,))}

    def prior(self, batch_size: int) -> Tensor:
        """Return the belief before the first episode: over kinds, float `[B, P, K]`, or else over goals `[B, P, G]`."""
        known = self.initial() if self.kinds is None else self.kinds.population()
        return known.expand(batch_size, self.spec.game.num_players, -1).clone()

    def initial(self) -> Tensor:
        """Return the belief over the goals of a player of whom nothing is known, float `[G]`; uniform by default."""
        return torch.full((self.size,), 1 / self.size, device=self.device)

    def start(self, prior: Tensor, true_goal: Tensor) -> Filter:
        """Return the belief at the start from what `prior` or `carry` returned, with its floor."""
        kinds, goals, fresh = prior[..., :0], prior, prior
        if self.kinds is not None:
            kinds, goals, fresh = prior, self.kinds.goals(prior), self.kinds.goals(prior, LATER)
        event = torch.zeros(prior.shape[:-1], dtype=torch.bool, device=prior.device)
        return Filter(self.alive(goals).log(), fresh, event, kinds)

    def infer(self, memory: Filter, view: View) -> Estimate:
        """Return the belief `[L, P, G]`, and samples from it."""
        belief = self.current(memory, view)
        extras = {} if self.kinds is None else {RECORD: memory.kinds}
        return Estimate(belief, lambda trees, generator: draw_one_hot(belief, trees, generator), extras)

    def current(self, memory: Filter, view: View) -> Tensor:
        """Return the belief `[L, P, G]` after the transition of the last step."""
        belief = memory.log_belief.softmax(-1)
        if not self.transition.changes:
            return belief
        possible = self.possible(view.observation, view.active)
        event = memory.event | self.event(view)
        return self.alive(self.transition.filter(belief, shared_out(memory.fresh, possible), possible, event))

    def update(self, memory: Filter, view: View, actions: Tensor, achieved: Tensor) -> Filter:
        """Update the belief by the actions `[L, P]` of active seats (Bayes' rule)."""
        log_belief = self.current(memory, view).log() if self.transition.changes else memory.log_belief
        if self.belief.intra:
            likelihood = self.likelihood(view, actions)
            posterior = self.alive(bayes_update(log_belief, likelihood, 0.0).exp()).log()
            log_belief = torch.where(view.active[..., None], posterior, log_belief)
        return memory._replace(log_belief=log_belief, event=(achieved != NO_GOAL) & view.active)

    def likelihood(self, view: View, actions: Tensor) -> Tensor:
        """Return log probabilities `[L, P, G]` of `actions` `[L, P]` under each goal: the emission of the filter."""
        return self.predictor.likelihood(view, actions)

    def next_goal(self, goal: Tensor, view: View, achieved: Tensor, generator: torch.Generator) -> Tensor:
        """Sample goals `[L, P, G]` after a step from the transition; new goals in proportion to their frequency."""
        possible = self.possible(view.observation, view.active)
        event = (achieved != NO_GOAL) | self.event(view)
        return self.transition.draw(goal, shared_out(self.common(), possible), possible, event, generator)

    def possible(self, observation: Tensor, active: Tensor) -> Tensor:
        """Return which goals remain possible, bool `[..., P, G]`, given observations `[..., P, *shape]`."""
        return goals_there(observation, active, self.spec.game.layout, self.size)

    def event(self, view: View) -> Tensor:
        """Return who achieved a goal in the last step, bool `[L, P]`, for goals that the game does not declare."""
        return torch.zeros_like(view.active)

    def common(self) -> Tensor:
        """Return relative frequencies of goals, float `[G]`, up to a factor; uniform by default."""
        return torch.ones(self.size, device=self.device)

    def label(self, episodes: Episodes) -> Tensor:
        """Return the goal that each step achieved, int64 `[T, B, P]`, or NO_GOAL."""
        raise NotImplementedError

    def achieved(self, episodes: Episodes) -> Tensor:
        """Return the goal that each seat achieved last in whole episodes, int64 `[B, P]`, or NO_GOAL."""
        return last_achieved(self.label(episodes))

    def carry(self, prior: Tensor, episodes: Episodes) -> Tensor:
        """Return the prior of the next episode, given the goals achieved in `episodes`.

        Without kinds it moves towards the goal achieved last (HOP's inter-OM).
        """
        if not self.belief.inter:
            return prior
        if self.kinds is None:
            return smooth_prior(prior, self.achieved(episodes), self.belief.alpha)
        return self.kinds.carried(prior, self.kinds.counts(one_hot_goals(self.label(episodes), self.size)))

    def alive(self, belief: Tensor) -> Tensor:
        """Return the belief `[..., G]` with the floor applied."""
        return floored(belief, self.belief.floor)

    def label_targets(self, batch: TrainingBatch, achieved: Tensor) -> Targets:
        """Return one-hot targets as `BeliefConfig.labels` defines them.

        The inferred goal is a sample from the recorded belief, as in each tree of a search.

        Args:
            batch: the episodes.
            achieved: int64 `[T, B, P]` the goal that each step achieved, or NO_GOAL.
        """
        episodes, noise = batch.episodes, batch.noise
        if self.kinds is not None:
            counts = self.kinds.counts(one_hot_goals(torch.where(episodes.active, achieved, NO_GOAL), self.size))
            self.kinds.learn(episodes.extras[RECORD][0].flatten(0, 1), counts.flatten(0, 1))
        if self.belief.labels == "belief" and not batch.offline:  # offline there is no learner and no belief
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
        """Sample the goal that each observed seat pursued at each step, int64 `[T, B, P]`; see `drawn_goals`."""
        episodes, samples = batch.episodes, batch.samples
        who = watched(episodes)
        rows, seat = who[samples.mask], who.nonzero()[:, 2]
        each = self.predictor.under_each_goal(batch.view[rows], samples.time[rows], seat, episodes.legal[who])
        log_likelihood = torch.zeros(*who.shape, self.size, device=who.device)
        log_likelihood[who] = each.gather(-1, episodes.action[who][:, None, None].expand(-1, self.size, 1))[..., 0]
        possible = self.possible(episodes.observation, episodes.active)
        fresh = shared_out(self.common(), possible)
        begun = torch.where(episodes.active[0][..., None], episodes.goal[0], 0.0)  # first belief; 0 without a learner
        prior = torch.where(begun.sum(-1, keepdim=True) > 0, begun, fresh[0])
        evidence = Evidence(log_likelihood, achieved, who, possible, fresh)
        return drawn_goals(evidence, prior, replace(self.transition, at_events=True), batch.noise)

    def forecast(self, observation: Tensor, time: Tensor, seat: Tensor, legal: Tensor, goal: Tensor) -> Tensor:
        """Return log probabilities `[m, A]`: a mixture of the policies of each goal with weights `goal` `[m, G]`."""
        return self.predictor.mixture(observation, time, seat, legal, goal)

    def metrics(self, goal_names: Sequence[str]) -> dict[str, Metric]:
        """Return metrics of the belief against true goals, if the game declares goals."""
        if not goal_names:
            return {}
        return {"belief": BeliefMetrics(len(goal_names), self.size, self.named, self.spec.game.max_steps)}

    named: bool = True  # the belief is over the declared goals

    def belief_view(self, goal: Tensor, goal_names: Sequence[str]) -> BeliefView | None:
        """Return the belief `[..., G]`, over the declared goals or over codes."""
        return BeliefView(goal, tuple(goal_names) if self.named else None)


def one_hot_targets(episodes: Episodes, goal: Tensor, generator: torch.Generator, share: float) -> Targets:
    """Return one-hot targets for goals `[T, B, P]` (NO_GOAL: unknown); inferred goals are sampled from the belief."""
    label = one_hot_goals(goal, episodes.goal.shape[-1])
    return Targets(inferred_goals(episodes, generator), label, goal != NO_GOAL, share)


def inferred_goals(episodes: Episodes, generator: torch.Generator) -> Tensor:
    """Sample one-hot goals `[T, B, P, G]` from the recorded belief of each step; 0 without a belief."""
    belief = torch.where(episodes.active[..., None], episodes.goal, 0.0).flatten(0, 2)
    there = belief.sum(-1) > 0
    drawn = torch.zeros_like(belief)
    if there.any():
        index = torch.multinomial(belief[there], 1, generator=generator)[:, 0]
        drawn[there] = one_hot_goals(index, belief.shape[-1])
    return drawn.view_as(episodes.goal)


def completed(episodes: Episodes, goal: Tensor, generator: torch.Generator) -> Tensor:
    """Label steps without a later event by a sample from the seat's last belief of the episode.

    Idle players still have a goal: a stag hunter without a stag remains a stag hunter. This is the E-step of a mixture
    of goal-conditioned policies, with the belief as responsibilities.

    Args:
        episodes: `[T, B, P, ...]`.
        goal: int64 `[T, B, P]`, the result of `next_achieved`.
        generator: samples one goal per seat and episode.

    Returns:
        int64 `[T, B, P]`; NO_GOAL for padding, and without a belief.
    """
    last = (episodes.active.long().sum(0) - 1).clamp(min=0)  # seats are active from the start until they leave
    belief = episodes.goal.gather(0, last[None, ..., None].expand(1, *episodes.goal.shape[1:]))[0]
    there = belief.sum(-1) > 0
    drawn = torch.full_like(last, NO_GOAL)
    if there.any():
        drawn[there] = torch.multinomial(belief[there], 1, generator=generator)[:, 0]
    return torch.where((goal == NO_GOAL) & episodes.active, drawn, goal)
