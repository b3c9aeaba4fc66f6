"""Exact inference of scripted players' goals: Bayes' rule with the scripts' own action distributions."""

from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.actors.scripted import rules_of
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games.scripts import goal_scripts, likelihoods
from omg_lightning.opponents.belief import bayes_update
from omg_lightning.opponents.transition import TransitionConfig, goals_there, shared_out
from omg_lightning.types import Episodes

_FLOOR = 1e-6  # an excluded goal can come back: a player may change its goal
_CHANGES = TransitionConfig(at_events=True)
_LEAST = 1e-12  # an action that no script takes excludes none of them


class Exact(NamedTuple):
    """Beliefs of an observer that knows the scripts' probabilities, and has observed all actions before each step."""

    belief: Tensor  # float [T, B, P, G] probability of each declared goal
    best: Tensor  # float [T, B, P] its probability of predicting the action of the step correctly


def exact_observer(env: VectorEnv, episodes: Episodes) -> Exact | None:
    """Return the beliefs of exact Bayes, with a uniform prior over goals.

    The observer starts each episode with the prior, and assumes that a player acts like one of the game's scripts,
    given only its current view. If views show which goals are left, a player whose goal is gone pursues any of
    these with equal probability. Only metrics use this knowledge; a learner never does.

    Args:
        env: with the scripts.
        episodes: `[T, B, P, ...]`.

    Returns:
        `None` if a goal has no script.
    """
    scripts = goal_scripts(rules_of(env))
    if scripts is None:
        return None
    shape = (*episodes.active.shape, len(scripts), env.num_actions)
    chance = torch.ones(shape, device=episodes.reward.device) / env.num_actions  # [T, B, P, G, A]
    for seat in range(env.num_players):
        who = episodes.active[:, :, seat]
        view, legal = episodes.observation[:, :, seat][who].float(), episodes.legal[:, :, seat][who]
        chance[:, :, seat][who] = likelihoods(scripts, rules_of(env), view, legal, seat)
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
