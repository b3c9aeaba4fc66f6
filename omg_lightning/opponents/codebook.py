"""Learned discrete goals under an explicit belief: codes of what happens to a player where it is.

A code of the whole board, seen from nowhere, clusters by place and time and means nothing. So on a grid views are coded
in the player's own frame: what lies on its cell and next to it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import endings, last_achieved, rewarded
from omg_lightning.games.grid.frame import own_frame
from omg_lightning.metrics.codes import CodeMetrics
from omg_lightning.opponents.base import MixtureConfig, Targets
from omg_lightning.opponents.explicit import BeliefConfig, ExplicitBelief
from omg_lightning.opponents.quantiser import VectorQuantiser
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, ConfigError, Episodes, View


class Codebook(ExplicitBelief):
    """Learned discrete goals under the same explicit belief as declared ones; no label is ever seen.

    A goal is achieved when its seat is rewarded (`omg_lightning.events.rewarded`): the code of its view at that step is
    the goal. On a grid the view is read in the player's own frame; other views are coded as they are, each entry in
    units of its standard deviation in the first batch.

    Args:
        spec: the game and the networks.
        num_codes: G, the largest number of learned goals.
        ending_codes: to end an episode with nothing is a goal, with a code of its own. Useful where some players
            pursue nothing, such as defectors in Snowdrift.
        belief: how the belief is updated.
        online: go on training the co-player policies in the online phase.
        mixture: how often the policy is trained on goals in hindsight.
        transition: how goals change within an episode.
    """

    named = False
    scale: Tensor

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
        if num_codes < 2:
            raise ConfigError(f"model.opponent.num_codes is {num_codes}: a codebook needs at least 2 codes")
        super().__init__(spec, num_codes, belief, online, mixture, transition=transition)
        self.ending_codes = ending_codes
        self.register_buffer("scale", torch.zeros(0))
        shape = spec.game.observation_space.shape or ()
        size = self.vectors(torch.zeros(1, *shape)).shape[-1]
        self.quantiser = VectorQuantiser(num_codes, size)
        if spec.game.layout is None:
            self.scale = torch.zeros(size)  # not known yet

    @property
    def in_use(self) -> Tensor:
        """Which codes are in use, bool `[G]`; where none is, all are."""
        used = self.quantiser.count > 0
        return used if bool(used.any()) else torch.ones_like(used)

    def vectors(self, observation: Tensor) -> Tensor:
        """Return what is coded of views `[M, *shape]`: float `[M, size]`."""
        layout = self.spec.game.layout
        if layout is not None:
            return own_frame(observation.float(), layout.num_players)
        flat = observation.reshape(len(observation), math.prod(observation.shape[1:])).float()
        return flat / self.scale if self.scale.numel() and bool(self.scale.any()) else flat

    def encode(self, observation: Tensor) -> Tensor:
        """Return the code, int64 `[M]`, of views `[M, *shape]`."""
        return self.quantiser(self.vectors(observation))

    def codes(self, observation: Tensor) -> Tensor:
        """Return the code, int64 `[M]`, of views `[M, *shape]`."""
        return self.encode(observation)

    def code_vectors(self) -> Tensor:
        """Return the codes, float `[G, size]`."""
        return self.quantiser.codes

    def prior(self, batch_size: int) -> Tensor:
        """Return the uniform belief over the codes in use, float `[B, P, G]`; other codes have probability 0."""
        used = self.in_use.float()
        return (used / used.sum()).expand(batch_size, self.spec.game.num_players, self.size).clone()

    def achieved(self, episodes: Episodes) -> Tensor:
        """Return the code where each seat was last rewarded, int64 `[B, P]`."""
        event = rewarded(episodes, self.spec.game.layout)
        if self.ending_codes:
            event |= endings(event, episodes.active) & ~event.any(0)
        codes = torch.full_like(episodes.achieved_goal, NO_GOAL)
        codes[event] = self.encode(episodes.observation[event])
        return last_achieved(codes)

    def possible(self, observation: Tensor, active: Tensor) -> Tensor:
        """Return the codes in use, bool `[..., P, G]`: what a code needs to be there is not known."""
        return self.in_use.expand(*active.shape, -1)

    def event(self, view: View) -> Tensor:
        """Return who was rewarded for the step that led to this view, bool `[L, P]`."""
        return (view.reward != 0) & view.active

    def common(self) -> Tensor:
        """Return how often each code was achieved, float `[G]`."""
        return self.quantiser.count

    def alive(self, belief: Tensor) -> Tensor:
        """Return a belief `[..., G]` over codes in use, none of them below the floor."""
        used = self.in_use
        belief = belief * used
        belief = belief / belief.sum(-1, keepdim=True).clamp(min=torch.finfo(belief.dtype).tiny)
        floor = self.belief.floor * used
        return floor + (1 - floor.sum()) * belief

    def targets(self, batch: TrainingBatch) -> Targets:
        """Move the codes, then label each step with the code of its seat's next event."""
        return self.label_targets(batch, self.learn(batch.episodes, batch.noise))

    @torch.no_grad()
    def learn(self, episodes: Episodes, noise: torch.Generator) -> Tensor:
        """Move the codes by the views of seats at events; return the codes of these.

        With `ending_codes` each seat's last step counts as an event, too; without, a seat that ends with nothing has no
        goal there.

        Args:
            episodes: `[T, B, P, ...]`.
            noise: for the codes.

        Returns:
            int64 `[T, B, P]`; NO_GOAL at steps that are no event.
        """
        event = rewarded(episodes, self.spec.game.layout)
        if self.ending_codes:
            event = endings(event, episodes.active)
        observation = episodes.observation[event]
        if self.scale.numel() and not bool(self.scale.any()) and len(observation) > 1:
            deviation = observation.reshape(len(observation), -1).float().std(0)
            self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))
        vectors = self.vectors(observation)
        self.quantiser.update(vectors, noise)
        achieved = torch.full_like(episodes.achieved_goal, NO_GOAL)
        achieved[event] = self.quantiser(vectors)
        return achieved

    def metrics(self, goal_names: Sequence[str]) -> dict[str, Metric]:
        """Return what the belief and the codes say of declared goals, which they never saw."""
        if not goal_names:
            return {}
        codes = CodeMetrics(self.size, len(goal_names), self.encode, self.spec.game.layout)
        return {**super().metrics(goal_names), "codes": codes}
