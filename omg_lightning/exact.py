"""What can be known of scripted players' goals: their own action distributions, turned around by Bayes."""

import torch
from torch import Tensor

from omg_lightning.games.base import Game
from omg_lightning.goals import intra
from omg_lightning.players import Player, make_player, scripts_of
from omg_lightning.types import Episodes

_FLOOR = 1e-6  # a goal that has been ruled out can come back: a player may change its mind
_LEAST = 1e-12  # an action that no script would take rules out none of them


def goal_scripts(game: Game) -> tuple[Player, ...] | None:
    """One of the game's scripts for each of its declared goals, in their order.

    Returns:
        `None` where the game declares no goals, or one that no script with a known action distribution pursues.
    """
    players = {getattr(player, "goal", None): player for player in map(make_player, scripts_of(game))}
    chosen = [players.get(name) for name in game.goal_names]
    known = [player for player in chosen if hasattr(player, "action_probabilities")]
    return tuple(player for player in known if player) if known and len(known) == len(chosen) else None


def exact_beliefs(game: Game, episodes: Episodes) -> Tensor | None:
    """The best belief that there can be: exact Bayes by somebody who knows the scripts, and that each goal is alike.

    It starts afresh with each episode, and takes it that a player acts as one of the game's scripts does, by what it
    sees at that step alone. Only scripts and measurements know this; a learner never does.

    Args:
        game: for its scripts.
        episodes: `[T, B, P, ...]`.

    Returns:
        float `[T, B, P, G]` before the action of each step was seen; `None` where not every goal has its script.
    """
    scripts = goal_scripts(game)
    if scripts is None:
        return None
    log_likelihood = torch.zeros(*episodes.active.shape, len(scripts), device=episodes.reward.device)
    for seat in range(game.num_players):
        who = episodes.active[:, :, seat]
        view, legal = episodes.observation[:, :, seat][who].float(), episodes.legal[:, :, seat][who]
        action = episodes.action[:, :, seat][who][:, None]
        for goal, script in enumerate(scripts):
            script.reset(len(view), seat, game, torch.Generator(view.device))
            chance = script.action_probabilities(view, legal).gather(1, action)[:, 0]  # type: ignore[attr-defined]
            log_likelihood[:, :, seat, goal][who] = chance.clamp(min=_LEAST).log()
    belief = torch.full_like(log_likelihood[0], 1 / len(scripts)).log()
    beliefs = []
    for step in log_likelihood:
        beliefs.append(belief)
        belief = intra(belief, step, _FLOOR)
    return torch.stack(beliefs).exp()
