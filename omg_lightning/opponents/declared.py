"""The game's own goals under an explicit belief (HOP)."""

import torch
from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.opponents.base import MixtureConfig, Targets
from omg_lightning.opponents.explicit import BeliefConfig, ExplicitBelief
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, ConfigError, Episodes


class Declared(ExplicitBelief):
    """An explicit belief over the goals that the game declares (HOP, ICML 2024).

    The label of a step is the declared goal that its seat achieves next.

    Args:
        spec: description of the game, and the networks.
        belief: settings of the belief.
        online: train the co-player policies in the online phase, too.
        mixture: how often the policy trains on goals in hindsight.
        transition: how goals change within an episode.

    Raises:
        ConfigError: the game declares no goals.
    """

    def __init__(
        self,
        spec: ModelSpec,
        belief: BeliefConfig = BeliefConfig(),
        online: bool = True,
        mixture: MixtureConfig = MixtureConfig(),
        transition: TransitionConfig = TransitionConfig(),
    ) -> None:
        check_declares(spec, "Declared")
        super().__init__(spec, len(spec.game.goal_names), belief, online, mixture, transition=transition)

    def label(self, episodes: Episodes) -> Tensor:
        """Return the declared goal that each step achieved, int64 `[T, B, P]`."""
        return torch.where(episodes.active, episodes.achieved_goal, NO_GOAL)

    def targets(self, batch: TrainingBatch) -> Targets:
        """Label each step with the declared goal achieved next."""
        return self.label_targets(batch, batch.episodes.achieved_goal)


def check_declares(spec: ModelSpec, name: str) -> None:
    """Raise ConfigError unless the game declares goals."""
    if not spec.game.goal_names:
        raise ConfigError(
            f"opponent {name} needs declared goals, but {spec.game.name} declares none: use Direct, Subgoal or Codebook"
        )
