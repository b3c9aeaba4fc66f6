"""The true goals of scripted players: an upper bound for studies."""

import torch
from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import one_hot_goals
from omg_lightning.opponents.base import MixtureConfig, OpponentModel, Targets
from omg_lightning.opponents.belief import draw_one_hot
from omg_lightning.opponents.declared import check_declares
from omg_lightning.opponents.explicit import one_hot_targets
from omg_lightning.opponents.transition import TransitionConfig, goals_there, shared_out
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, Estimate, View


class Oracle(OpponentModel):
    """Observes the true goals of scripts. Memory is a one-hot vector, `[L, P, G]`, all 0 for a player without a goal.

    Args:
        spec: description of the game, and the networks.
        online: train the co-player policies in the online phase, too.
        mixture: how often the policy trains on goals in hindsight.
        transition: how goals change in search trees; the oracle does not know future goals.

    Raises:
        ConfigError: the game declares no goals.
    """

    needs_true_goal = True

    def __init__(
        self,
        spec: ModelSpec,
        online: bool = True,
        mixture: MixtureConfig = MixtureConfig(),
        transition: TransitionConfig = TransitionConfig(),
    ) -> None:
        check_declares(spec, "Oracle")
        super().__init__(spec, len(spec.game.goal_names), online, mixture)
        self.transition, self.goals_change = transition, transition.changes

    def start(self, prior: Tensor, true_goal: Tensor) -> Tensor:
        """Return one-hot vectors of the scripts' goals `[B, P]`."""
        return one_hot_goals(true_goal, self.size)

    def infer(self, memory: Tensor, view: View) -> Estimate:
        """Return the true goals."""
        return Estimate(memory, lambda trees, generator: memory[:, None].expand(-1, trees, -1, -1))

    def uninformed(self, memory: Tensor, view: View) -> Estimate:
        """Return the uniform distribution over goals."""
        alike = torch.full((*view.active.shape, self.size), 1 / self.size, device=view.active.device)
        return Estimate(alike, lambda trees, generator: draw_one_hot(alike, trees, generator))

    def next_goal(self, goal: Tensor, view: View, achieved: Tensor, generator: torch.Generator) -> Tensor:
        """Sample goals `[L, P, G]` after a step among the remaining ones."""
        possible = goals_there(view.observation, view.active, self.spec.game.layout, self.size)
        fresh = shared_out(torch.ones_like(goal), possible)
        return self.transition.draw(goal, fresh, possible, achieved != NO_GOAL, generator)

    def targets(self, batch: TrainingBatch) -> Targets:
        """Return the true goals."""
        episodes = batch.episodes
        return one_hot_targets(episodes, episodes.true_goal, batch.noise, self.mixture.share(batch.env_steps))
