"""Checks of an agent's settings, and of a checkpoint against them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from omg_lightning.algorithms import Algorithm
from omg_lightning.rewards import Reward
from omg_lightning.spec import GameSpec
from omg_lightning.types import ConfigError

GAME_KEYS = ("name", "observation_space", "num_players", "num_actions", "max_steps")
NETWORK_KEYS = ("opponent", "algorithm", "encoder", "networks")


def check_parts(game: GameSpec, algorithm: Algorithm, reward: Reward) -> None:
    """Raise ConfigError unless the algorithm can play this game and learn from this reward."""
    if algorithm.searches and not game.searchable:
        raise ConfigError(
            f"{type(algorithm).__name__} searches, but {game.name} cannot be stepped from a state: set "
            "--model.algorithm PPO, or wrap the environment in CopyableGame"
        )
    if algorithm.searches and not reward.same_as_game:
        raise ConfigError(
            f"{type(algorithm).__name__} plans with the game's own rewards, not with {type(reward).__name__}: set "
            "--model.algorithm PPO, or the game's option `prosocial`"
        )


def loss_weights(parts: Mapping[str, Mapping[str, float]], given: Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each loss: those of the parts, replaced by the user's.

    Args:
        parts: for each part, its losses and their weights.
        given: the user's weights.

    Raises:
        ConfigError: two parts have a loss of one name, a weight is negative, all are 0, or a name is unknown.
    """
    found: dict[str, float] = {}
    for part, own in parts.items():
        if double := set(own) & set(found):
            raise ConfigError(f"{part} has a loss called {min(double)!r}, as another part has: give it another name")
        found |= own
    if unknown := [name for name in given if name not in found]:
        raise ConfigError(f"model.losses names {unknown[0]!r}, but the losses are {', '.join(found)}")
    found |= given
    if not found or min(found.values()) < 0 or max(found.values()) <= 0:
        raise ConfigError(f"model.losses are {found}: weights must be at least 0, and one of them positive")
    return found


def weigh(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor | None:
    """Return the weighted sum of `losses`, or None where nothing is to be trained.

    Raises:
        ConfigError: a loss with a gradient has no weight, or the sum is not finite.
    """
    if unknown := [name for name, value in losses.items() if value.requires_grad and name not in weights]:
        raise ConfigError(
            f"the loss {unknown[0]!r} has no weight, so it would never be trained: name it in `loss_weights` of its "
            "part, or detach it if it is a metric"
        )
    due = [weight * losses[name] for name, weight in weights.items() if name in losses]
    if not due:
        return None
    loss = torch.stack(due).sum()
    if not torch.isfinite(loss):
        values = ", ".join(f"{name} {float(value.detach()):.3g}" for name, value in losses.items())
        raise ConfigError(f"a loss is not finite ({values}): lower model.learning_rate")
    return loss


def parameter_groups(agent: nn.Module, parts: Mapping[str, nn.Module]) -> list[dict[str, Any]]:
    """Return an optimiser group for each part, of the parameters that are trained.

    Raises:
        ConfigError: a parameter of `agent` is in none of them, so it would never be trained.
    """
    groups = [
        {"params": [weight for weight in part.parameters() if weight.requires_grad], "name": name}
        for name, part in parts.items()
    ]
    known = {id(weight) for group in groups for weight in group["params"]}
    for name, weight in agent.named_parameters():
        if weight.requires_grad and id(weight) not in known:
            raise ConfigError(
                f"the parameter {name!r} is outside of every optimiser group, so it would never be trained: make it a "
                "part of the opponent model or of the algorithm, or freeze it"
            )
    return [group for group in groups if group["params"]]


def check_weights(weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raise ConfigError unless all the named weights are finite."""
    broken = [name for name, weight in weights if not weight.isfinite().all()]
    if broken:
        raise ConfigError(f"weights are not finite ({broken[0]}), so they are not saved: lower model.learning_rate")


def check_match(saved: Mapping[str, Any], own: Mapping[str, Any], networks: bool = True) -> None:
    """Raise ConfigError where a checkpoint's hyperparameters differ from this run's in the game or in the networks."""
    for key in GAME_KEYS:
        _same("game" if key == "name" else key, saved["spec"].get(key), own["spec"].get(key))
    for key in NETWORK_KEYS if networks else ():
        _same(f"model.{key}", _kind(saved.get(key)), _kind(own.get(key)))


def _same(name: str, there: Any, here: Any) -> None:
    if there != here:
        raise ConfigError(
            f"the checkpoint was trained with {name} {there}, but this run has {here}: use the configuration it was "
            "trained with, or train anew"
        )


def _kind(value: Any) -> Any:
    """Return a part's class; settings of it that matter show in the shapes of its weights."""
    return value["class_path"].rpartition(".")[2] if isinstance(value, Mapping) and "class_path" in value else value


def differing(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return the names of settings of networks that differ between a checkpoint's hyperparameters and this run's."""
    found = []
    for key in NETWORK_KEYS:
        there, here = (_settings(settings.get(key)) for settings in (saved, own))
        found += [f"model.{key}.{name}" for name in {**there, **here} if there.get(name) != here.get(name)]
    return found


def _settings(value: Any) -> Mapping[str, Any]:
    """Return the settings of a part, or of a group of settings."""
    found = value.get("init_args", value) if isinstance(value, Mapping) else {}
    return found or {}


def check_fit(saved: Mapping[str, Tensor], own: Mapping[str, Tensor], differ: Sequence[str] = ()) -> None:
    """Raise ConfigError unless a checkpoint's weights `saved` have the names and shapes of `own`.

    Args:
        saved: weights by name.
        own: weights by name.
        differ: the settings that may be the reason, see `differing`.
    """
    for name in {**own, **saved}:
        there, here = (list(weights[name].shape) if name in weights else "nothing" for weights in (saved, own))
        if there != here:
            known = f" (differing: {', '.join(differ)})" if differ else ""
            raise ConfigError(
                f"the checkpoint's {name} is {there}, but this run has {here}: use the settings it was trained "
                f"with{known}, or train anew"
            )
