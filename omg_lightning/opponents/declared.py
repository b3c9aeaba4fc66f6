"""The game's own goals under an explicit belief (HOP)."""

import torch
from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.events import last_achieved
from omg_lightning.opponents.base import MixtureConfig, Targets
from omg_lightning.opponents.explicit import BeliefConfig, ExplicitBelief
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.samples import TrainingBatch
from omg_lightning.types import NO_GOAL, ConfigError, Episodes


class Declared(ExplicitBelief):
    """The game's declared goals under an explicit belief (HOP, ICML 2024).

    A step is labelled with the declared goal that its seat achieved next.

    Args:
        spec: the game and the networks.
        belief: how the belief is updated.
        online: go on training the co-player policies in the online phase.
        mixture: how often the policy is trained on goals in hindsight.
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

    def achieved(self, episodes: Episodes) -> Tensor:
        """Return the goal that the game says was achieved last, int64 `[B, P]`."""
        return last_achieved(torch.where(episodes.active, episodes.achieved_goal, NO_GOAL))

    def targets(self, batch: TrainingBatch) -> Targets:
        """Label each step with the declared goal achieved next."""
        return self.label_targets(batch, batch.episodes.achieved_goal)


def check_declares(spec: ModelSpec, name: str) -> None:
    """Raise ConfigError unless the game declares goals."""
    if not spec.game.goal_names:
        raise ConfigError(
            f"opponent {name} needs declared goals, but {spec.game.name} declares none: use Direct, Subgoal or Codebook"
        )
