"""What can be known of scripted players' goals: their own action distributions, turned around by Bayes."""

from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors import make_player
from omg_lightning.actors.scripted import rules_of
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games.scripts import Player, scripts_of
from omg_lightning.opponents.belief import bayes_update
from omg_lightning.opponents.transition import TransitionConfig, goals_there, shared_out
from omg_lightning.types import Episodes

_FLOOR = 1e-6  # a goal that has been ruled out can come back: a player may change its mind
_CHANGES = TransitionConfig(at_events=True)
_LEAST = 1e-12  # an action that no script would take rules out none of them


def goal_scripts(env: VectorEnv) -> tuple[Player, ...] | None:
    """Return a player of the game for each of its declared goals, in their order.

    It is one of the game's two scripts, or the player that bears the goal's name (such as `food_0`).

    Returns:
        `None` where the game declares no goals, or one that no script with a known action distribution pursues.
    """
    players = {
        getattr(player, "goal", None): player
        for player in (make_player(name, rules_of(env)) for name in scripts_of(env))
    }
    bearing = {name: make_player(name, rules_of(env)) for name in env.goal_names if name in env.players}
    chosen = [players.get(name) or bearing.get(name) for name in env.goal_names]
    known = [player for player in chosen if hasattr(player, "action_probabilities")]
    return tuple(player for player in known if player) if known and len(known) == len(chosen) else None


class Exact(NamedTuple):
    """What an observer knows that has the scripts' own probabilities, and has seen all actions before each step."""

    belief: Tensor  # float [T, B, P, G] of each declared goal
    best: Tensor  # float [T, B, P] its chance to predict the action of the step


def exact_observer(env: VectorEnv, episodes: Episodes) -> Exact | None:
    """Return the best that can be known: exact Bayes by an observer, and takes all goals to be equally likely at first.

    It starts afresh with each episode, and takes it that a player acts as one of the game's scripts does, by what it
    sees at that step alone. Where views show which goals are left, whoever pursued one that is gone pursues any of
    these, all equally likely. Only scripts and measurements know this; a learner never does.

    Args:
        env: for its scripts.
        episodes: `[T, B, P, ...]`.

    Returns:
        `None` where not every goal has its script.
    """
    scripts = goal_scripts(env)
    if scripts is None:
        return None
    shape = (*episodes.active.shape, len(scripts), env.num_actions)
    chance = torch.ones(shape, device=episodes.reward.device) / env.num_actions  # [T, B, P, G, A]
    for seat in range(env.num_players):
        who = episodes.active[:, :, seat]
        view, legal = episodes.observation[:, :, seat][who].float(), episodes.legal[:, :, seat][who]
        for goal, script in enumerate(scripts):
            script.reset(len(view), seat, rules_of(env), torch.Generator(view.device))
            chance[:, :, seat, goal][who] = script.action_probabilities(view, legal)  # type: ignore[attr-defined]
    played = episodes.action[..., None, None].expand(*shape[:-1], 1)
    log_likelihood = chance.gather(-1, played)[..., 0].clamp(min=_LEAST).log()
    there = goals_there(episodes.observation, episodes.active, env.layout, len(scripts))  # [T, B, P, G]
    nothing = torch.zeros_like(episodes.active[0])
    belief = torch.full_like(log_likelihood, 1 / len(scripts))
    for t in range(len(belief)):
        if t:
            belief[t] = bayes_update(belief[t - 1].log(), log_likelihood[t - 1], _FLOOR).exp()
        belief[t] = _CHANGES.filter(belief[t], shared_out(torch.ones_like(belief[t]), there[t]), there[t], nothing)
    return Exact(belief, (belief[..., None] * chance).sum(-2).amax(-1))
