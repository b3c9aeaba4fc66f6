"""The exact best response to a fixed strategy in a repeated matrix game, by dynamic programming."""

from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.envs.base import RulesEnv
from omg_lightning.games.matrix import NO_ACTION, MatrixGame, MatrixState
from omg_lightning.games.scripts import ScriptedPlayer
from omg_lightning.types import ConfigError, Episodes


class BestResponse(NamedTuple):
    """The value of each action of seat 0 with a player of a known strategy in seat 1."""

    q: Tensor  # float64 [max_steps, 1 + A * A, A] undiscounted return from here on, if all later actions are best

    @property
    def value(self) -> float:
        """The return of an episode in which every action is a best one."""
        return float(self.q[0, 0].max())

    def regret(self, episodes: Episodes) -> Tensor:
        """Return the expected loss of each action of seat 0, float64 `[T, B]`: 0 for a best action."""
        own, other = episodes.action[..., 0], episodes.action[..., 1]
        last = 1 + own * self.q.shape[-1] + other
        state = torch.cat([torch.zeros_like(last[:1]), last[:-1]])
        values = self.q[torch.arange(len(own))[:, None], state]  # [T, B, A]
        return values.amax(-1) - values.gather(-1, own[..., None])[..., 0]


def best_response(game: MatrixGame, player: ScriptedPlayer) -> BestResponse:
    """Compute the best response to a player of seat 1 whose strategy depends only on the last joint action.

    With V the value after the last step, 0, and from the last step backwards
    `Q_t(s, a) = sum_b pi(b | s) (r(a, b) + max_a' Q_{t+1}((a, b), a'))`, where s is the last joint action.

    Args:
        game: of two players, with a memory of one step.
        player: its `action_probabilities` are the strategy pi.

    Raises:
        ConfigError: the game has another number of players or another memory.
    """
    if game.num_players != 2 or game.memory != 1:
        raise ConfigError(
            f"{game!r} has {game.num_players} players and memory {game.memory}: best_response expects 2 and 1"
        )
    count = game.num_actions
    joint = torch.cartesian_prod(torch.arange(count), torch.arange(count)).view(-1, 2)
    last = torch.cat([torch.full((1, 2), NO_ACTION), joint])[:, None]  # [S, 1, 2]
    state = MatrixState(torch.zeros(len(last), dtype=torch.int64), last)
    player.reset(len(last), 1, RulesEnv(game), torch.Generator())
    chance = player.action_probabilities(game.observe(state)[:, 1], game.legal(state)[:, 1]).double()  # [S, A]
    payoff = torch.tensor(game.payoff, dtype=torch.float64)[..., 0]  # [A, A]
    value = torch.zeros(len(last), dtype=torch.float64)
    steps = []
    for _ in range(game.max_steps):
        steps.append(chance @ (payoff + value[1:].view(count, count)).t())
        value = steps[-1].amax(-1)
    return BestResponse(torch.stack(steps[::-1]))
