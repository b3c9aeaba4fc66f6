"""Checks of an agent's settings, and of a checkpoint against them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from omg_lightning.algorithms import Algorithm
from omg_lightning.rewards import Reward
from omg_lightning.spec import GameSpec, plain_layout
from omg_lightning.types import ConfigError

SIZES = ("observation_space", "num_players", "num_actions")  # sizes of a game that networks depend on
CURE = "lower model.learning_rate, or scale the game's views and rewards to about 1"  # if not finite
NETWORK_KEYS = ("opponent", "algorithm", "encoder", "networks")


def check_parts(game: GameSpec, algorithm: Algorithm, reward: Reward) -> None:
    """Raise ConfigError unless the algorithm can play this game and train on this reward."""
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
    """Return the weight of each loss: the user's, or the default of its component.

    Args:
        parts: for each component, its losses and their default weights.
        given: the user's weights.

    Raises:
        ConfigError: two components have a loss of one name, a weight is negative, all are 0, or a name is unknown.
    """
    found: dict[str, float] = {}
    for part, own in parts.items():
        if double := set(own) & set(found):
            raise ConfigError(f"{part} has a loss called {min(double)!r}, which exists already: give it another name")
        found |= own
    if unknown := [name for name in given if name not in found]:
        raise ConfigError(f"model.losses has a weight for {unknown[0]!r}: expected one of {', '.join(found)}")
    found |= given
    if not all(0 <= weight < math.inf for weight in found.values()) or not any(found.values()):
        raise ConfigError(f"model.losses are {found}: weights must be at least 0 and finite, and one of them positive")
    return found


def weigh(losses: Mapping[str, Tensor], weights: Mapping[str, float], views: Tensor | None = None) -> Tensor | None:
    """Return the weighted sum of `losses`, or None if none of them has a gradient.

    Args:
        losses: by name.
        weights: by name.
        views: the observations of the batch; large values may explain a sum that is not finite.

    Raises:
        ConfigError: a loss with a gradient has no weight, or the sum is not finite.
    """
    if unknown := [name for name, value in losses.items() if value.requires_grad and name not in weights]:
        raise ConfigError(
            f"the loss {unknown[0]!r} has no weight, so it would have no effect: add it to `loss_weights` of its "
            "class, or detach it if it is a metric"
        )
    due = [weight * losses[name] for name, weight in weights.items() if name in losses]
    if not due:
        return None
    loss = torch.stack(due).sum()
    if not torch.isfinite(loss):
        values = ", ".join(f"{name} {float(value.detach()):.3g}" for name, value in losses.items())
        most = "" if views is None or not views.numel() else f"; views reach {float(views.float().abs().max()):.3g}"
        raise ConfigError(f"a loss is not finite ({values}{most}): {CURE}")
    return loss


def parameter_groups(agent: nn.Module, parts: Mapping[str, nn.Module]) -> list[dict[str, Any]]:
    """Return an optimiser group for each component, with its trained parameters.

    Raises:
        ConfigError: a parameter of `agent` is in no group, so it would never be trained.
    """
    groups = [
        {"params": [weight for weight in part.parameters() if weight.requires_grad], "name": name}
        for name, part in parts.items()
    ]
    known = {id(weight) for group in groups for weight in group["params"]}
    for name, weight in agent.named_parameters():
        if weight.requires_grad and id(weight) not in known:
            raise ConfigError(
                f"the parameter {name!r} is in no optimiser group, so it would never be trained: make it a submodule "
                "of the opponent model or of the algorithm, or freeze it"
            )
    return [group for group in groups if group["params"]]


def check_finite(checkpoint: Mapping[str, Any]) -> None:
    """Raise ConfigError unless all weights, buffers and states of optimisers in a checkpoint are finite."""
    for where in ("state_dict", "optimizer_states"):
        for name, value in _tensors(checkpoint.get(where), where):
            if not value.isfinite().all():
                raise ConfigError(f"{name} is not finite, so no checkpoint was saved: {CURE}")


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor in nested mappings and lists, with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _tensors(inner, f"{name}.{key}")


def check_match(
    saved: Mapping[str, Any], own: Mapping[str, Any], networks: bool = True, other_rules: bool = False
) -> None:
    """Raise ConfigError if a checkpoint's hyperparameters differ from this run's in the game or in the networks.

    Args:
        saved: hyperparameters in the checkpoint.
        own: hyperparameters of this run.
        networks: compare the networks, too.
        other_rules: only warn about a game with other rules; other sizes of views, players or actions still raise an
            error.
    """
    there, here = _described(saved["spec"]), _described(own["spec"])
    differ = [name for name in {**here, **there} if there.get(name) != here.get(name)]
    if "name" in differ:  # ignore the options of another game
        differ = [name for name in differ if name in ("name", *SIZES)]
    if differ:
        first, second = (", ".join(f"{name} {_short(game.get(name))}" for name in differ) for game in (there, here))
        text = f"the checkpoint was trained with {first}, but this run has {second}"
        if any(name in SIZES for name in differ):
            raise ConfigError(f"{text}: use the configuration of its training, or train a new agent")
        if not other_rules:
            raise ConfigError(
                f"{text}: use the configuration of its training, or allow it with --other_rules true (in Python: "
                "other_rules=True)"
            )
        rank_zero_warn(text)
    for key in NETWORK_KEYS if networks else ():
        _same(f"model.{key}", _kind(saved.get(key)), _kind(own.get(key)))


def check_sizes(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ConfigError if views, players or actions of two games, as plain values, differ in size."""
    if differ := [name for name in SIZES if there.get(name) != here.get(name)]:
        first, second = (", ".join(f"{name} {_short(game.get(name))}" for name in differ) for game in (there, here))
        raise ConfigError(
            f"the agent was trained with {first}, but {here['name']} has {second}: load an agent trained in this game"
        )


def _described(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a game by name, its options first."""
    found = {**(spec.get("options") or {}), **{name: value for name, value in spec.items() if name != "options"}}
    if found.get("layout"):
        found["layout"] = plain_layout(found["layout"])
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _same(name: str, there: Any, here: Any) -> None:
    if there != here:
        raise ConfigError(
            f"the checkpoint was trained with {name} {there}, but this run has {here}: use the configuration of its "
            "training, or train a new agent"
        )


def _kind(value: Any) -> Any:
    """Return a component's class; its settings that matter show in the shapes of its weights."""
    return value["class_path"].rpartition(".")[2] if isinstance(value, Mapping) and "class_path" in value else value


def differing(saved: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return the names of network settings that differ between a checkpoint's hyperparameters and this run's."""
    found = []
    for key in NETWORK_KEYS:
        there, here = (_settings(settings.get(key)) for settings in (saved, own))
        found += [f"model.{key}.{name}" for name in {**there, **here} if there.get(name) != here.get(name)]
    return found


def _settings(value: Any) -> Mapping[str, Any]:
    """Return the settings of a component, or of a group of settings."""
    found = value.get("init_args", value) if isinstance(value, Mapping) else {}
    return found or {}


def check_fit(saved: Mapping[str, Tensor], own: Mapping[str, Tensor], differ: Sequence[str] = ()) -> None:
    """Raise ConfigError unless a checkpoint's weights `saved` have the names and shapes of `own`.

    Args:
        saved: weights by name.
        own: weights by name.
        differ: the settings that may be the cause, see `differing`.
    """
    for name in {**own, **saved}:
        there, here = (list(weights[name].shape) if name in weights else "nothing" for weights in (saved, own))
        if there != here:
            known = f" (differing: {', '.join(differ)})" if differ else ""
            raise ConfigError(
                f"the checkpoint's {name} is {there}, but this run has {here}: use the settings of its "
                f"training{known}, or train a new agent"
            )
