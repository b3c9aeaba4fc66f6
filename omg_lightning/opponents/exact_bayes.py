"""A belief over declared goals by the scripts' own action probabilities: the ceiling of any belief, for studies."""

from typing import Any

import torch
from torch import Tensor

from omg_lightning.encoders import ModelSpec
from omg_lightning.games import Game
from omg_lightning.games.scripts import goal_scripts, likelihoods
from omg_lightning.opponents.declared import Declared
from omg_lightning.types import ConfigError, View


class ExactBayes(Declared):
    """`Declared` with the scripts' action probabilities in place of learned co-player policies, in the belief alone.

    It assumes that each player acts as the game's script for its goal. What it loses against `Oracle` no opponent model
    can win by observing actions; what `Declared` loses against it comes from learned policies. Like `Oracle` it uses
    knowledge that no learner has: report it as a bound, never as a method.

    Args:
        spec: description of the game, and the networks.
        settings: those of `Declared`.

    Raises:
        ConfigError: the game is not part of this project, or one of its goals has no script.
    """

    def __init__(self, spec: ModelSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        game = spec.game.make()
        scripts = goal_scripts(game) if isinstance(game, Game) else None
        if scripts is None:
            raise ConfigError(
                f"opponent ExactBayes needs a script with known action probabilities for each goal, but "
                f"{spec.game.name} has none: use Declared"
            )
        self.game, self.scripts = game, scripts

    def likelihood(self, view: View, actions: Tensor) -> Tensor:
        """Return log probabilities `[L, P, G]` of `actions` `[L, P]` under the script of each goal; 0 once left."""
        found = torch.zeros(*actions.shape, self.size, device=actions.device)
        for seat in range(actions.shape[1]):
            who = view.active[:, seat]
            observation, legal = view.observation[who, seat].float(), view.legal[who, seat]
            chance = likelihoods(self.scripts, self.game, observation, legal, seat)
            action = actions[who, seat][:, None, None].expand(-1, self.size, 1)
            found[who, seat] = chance.gather(-1, action)[..., 0].clamp(min=torch.finfo(chance.dtype).tiny).log()
        return found
