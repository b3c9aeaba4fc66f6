"""Learned discrete goals under an explicit belief: codes of the changes at a player's reward events."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import around, endings, rewarded
from omg_lightning.metrics.codes import CodeMetrics
from omg_lightning.opponents.base import MixtureConfig, Targets
from omg_lightning.opponents.explicit import BeliefConfig, ExplicitBelief, Filter
from omg_lightning.opponents.outcomes import Outcomes
from omg_lightning.opponents.things import Things
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, View


class Codebook(ExplicitBelief):
    """Learned discrete goals under the same explicit belief as declared ones; training uses no goal labels.

    A goal is achieved when its seat is rewarded (`omg_lightning.events.rewarded`); the code is the kind of event. On a
    grid this is a kind of object, see `Things`: a goal remains as long as an object of its kind is in view. In other
    games it is a kind of change of the observation, see `Outcomes`.

    Args:
        spec: the game and the networks.
        num_codes: G, the largest number of learned goals.
        ending_codes: whether the last code stands for episodes without an event. Useful if some players pursue no goal,
            such as defectors in Snowdrift.
        belief: settings of the belief.
        online: train the co-player policies in the online phase, too.
        mixture: how often the policy trains on goals in hindsight.
        transition: how goals change within an episode.
    """

    named = False
    nothing: Tensor

    def __init__(
        self,
        spec: ModelSpec,
        num_codes: int = 8,
        ending_codes: bool = False,
        belief: BeliefConfig = BeliefConfig(),
        online: bool = True,
        mixture: MixtureConfig = MixtureConfig(),
        transition: TransitionConfig = TransitionConfig(),
    ) -> None:
        least = 3 if ending_codes else 2
        if num_codes < least:
            raise ConfigError(
                f"model.opponent.num_codes is {num_codes}: expected at least {least} codes"
                + (" with ending_codes" if ending_codes else "")
            )
        super().__init__(spec, num_codes, belief, online, mixture, transition=transition)
        self.ending_codes, count = ending_codes, num_codes - ending_codes
        layout, shape = spec.game.layout, spec.game.observation_space.shape or ()
        self.quantiser = Outcomes(count, shape) if layout is None else Things(count, layout)
        self.register_buffer("nothing", torch.zeros(int(ending_codes)))  # moving average of episodes without an event

    @property
    def in_use(self) -> Tensor:
        """The codes in use, bool `[G]`; all of them if none is."""
        used = self.common() > 0
        return used if bool(used.any()) else torch.ones_like(used)

    def common(self) -> Tensor:
        """Return how often each code was achieved, float `[G]`."""
        return torch.cat([self.quantiser.count, self.nothing])

    def code_vectors(self) -> Tensor:
        """Return the codes, float `[G, size]`; 0 for the code of episodes without an event."""
        codes = self.quantiser.codes
        return torch.cat([codes, codes.new_zeros(len(self.nothing), codes.shape[1])])

    def coded(self, episodes: Episodes) -> Tensor:
        """Return the views of seats before and after events, `[M, 2, *shape]`."""
        before, after, known = self._around(episodes, rewarded(episodes, self.spec.game.layout))
        return torch.stack([before, after], 1)[known]

    def codes(self, observation: Tensor) -> Tensor:
        """Return the codes of events, int64 `[M]`, by views `[M, 2, *shape]` before and after them; see `label`."""
        known = torch.ones(len(observation), dtype=torch.bool, device=observation.device)
        return self.quantiser.kind(observation[:, 0], observation[:, 1], known)

    def label(self, episodes: Episodes) -> Tensor:
        """Return the code of the event of each step, int64 `[T, B, P]`; NO_GOAL without an event.

        With `ending_codes` the last step of a seat without an event has the last code.
        """
        event = rewarded(episodes, self.spec.game.layout)
        found = torch.full_like(episodes.achieved_goal, NO_GOAL)
        found[event] = self.quantiser.kind(*self._around(episodes, event))
        if self.ending_codes:
            ends = endings(event, episodes.active) & (found == NO_GOAL).all(0)
            found = torch.where(ends & ~event, self.size - 1, found)
        return found

    def _around(self, episodes: Episodes, where: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return around(episodes, where, borrow=self.spec.game.layout is not None)

    def initial(self) -> Tensor:
        """Return the uniform belief over the codes in use, float `[G]`; other codes have probability 0."""
        used = self.in_use.float()
        return used / used.sum()

    def possible(self, observation: Tensor, active: Tensor) -> Tensor:
        """Return the codes in use that the views still show, bool `[..., P, G]`; all codes in use if there is none."""
        used = self.in_use.expand(*active.shape, -1)
        there = self.quantiser.there(observation)
        found = used & torch.cat([there, torch.ones_like(there[..., : len(self.nothing)])], -1)
        return torch.where(found.any(-1, keepdim=True), found, used)

    def event(self, view: View) -> Tensor:
        """Return which seats achieved a goal in the step that led to this view, bool `[L, P]`.

        On a grid a goal lasts as long as its object is in view. In other games it ends with each reward.
        """
        if self.quantiser.lasting:
            return torch.zeros_like(view.active)
        return (view.reward != 0) & view.active

    def update(self, memory: Filter, view: View, actions: Tensor, achieved: Tensor) -> Filter:
        """Update the belief by the actions `[L, P]`; achieved declared goals are ignored."""
        return super().update(memory, view, actions, torch.full_like(achieved, NO_GOAL))

    def next_goal(self, goal: Tensor, view: View, achieved: Tensor, generator: torch.Generator) -> Tensor:
        """Sample goals `[L, P, G]` after a step; achieved declared goals are ignored."""
        return super().next_goal(goal, view, torch.full_like(achieved, NO_GOAL), generator)

    def alive(self, belief: Tensor) -> Tensor:
        """Return the belief `[..., G]` over the codes in use, with the floor applied."""
        used = self.in_use
        belief = belief * used
        belief = belief / belief.sum(-1, keepdim=True).clamp(min=torch.finfo(belief.dtype).tiny)
        floor = self.belief.floor * used
        return floor + (1 - floor.sum()) * belief

    def targets(self, batch: TrainingBatch) -> Targets:
        """Update the codes, then label each step with the code of its seat's next event."""
        return self.label_targets(batch, self.learn(batch.episodes, batch.noise))

    @torch.no_grad()
    def learn(self, episodes: Episodes, noise: torch.Generator) -> Tensor:
        """Update the codes with the events of episodes `[T, B, P, ...]`, and return their `label`."""
        event = rewarded(episodes, self.spec.game.layout)
        ordinary = partial(self._around, episodes, episodes.active & ~event)
        self.quantiser.learn(self._around(episodes, event), ordinary, noise)
        found = self.label(episodes)
        if self.ending_codes:
            self.nothing.mul_(self.quantiser.decay).add_((found == self.size - 1).sum())
        return found

    def metrics(self, goal_names: Sequence[str]) -> dict[str, Metric]:
        """Return metrics of the belief and of the codes against declared goals, which training does not use."""
        if not goal_names:
            return {}
        return {**super().metrics(goal_names), "codes": CodeMetrics(self.size, len(goal_names), self.label)}
