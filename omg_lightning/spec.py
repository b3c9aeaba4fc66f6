"""The description of a game that a model needs, in plain values, and the choice of components by class."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import partial
from inspect import signature
from typing import Any

from omg_lightning import envs, games
from omg_lightning.envs.base import VectorEnv, describe
from omg_lightning.games import Game
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import Space, plain_space, space_of
from omg_lightning.types import ConfigError


@dataclass(frozen=True)
class GameSpec:
    """Names and sizes of a game: all that networks and losses know about it.

    Args:
        name: of the game.
        num_players: P.
        num_actions: A.
        max_steps: the longest episode.
        observation_space: of one seat's view.
        action_names: A names.
        goal_names: the declared goals.
        noop: the action that replaces an illegal one.
        layout: what a view means, for games on a grid; else None.
        searchable: states can be stepped by a search.
        options: every option of the game, by name.
    """

    name: str
    num_players: int
    num_actions: int
    max_steps: int
    observation_space: Space
    action_names: tuple[str, ...]
    goal_names: tuple[str, ...] = ()
    noop: int = 0
    layout: GridLayout | None = None
    searchable: bool = True
    options: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, env: VectorEnv) -> GameSpec:
        """Describe an environment."""
        return cls(
            env.name,
            env.num_players,
            env.num_actions,
            env.max_steps,
            env.observation_space,
            tuple(env.action_names),
            tuple(env.goal_names),
            env.noop,
            env.layout,
            env.game is not None,
            describe(env),
        )

    def plain(self) -> dict[str, Any]:
        """Return plain values, which a checkpoint can hold and `from_plain` reads."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found["observation_space"] = plain_space(self.observation_space)
        found["action_names"], found["goal_names"] = list(self.action_names), list(self.goal_names)
        if self.layout is not None:
            found["layout"] = plain_layout(self.layout._asdict())
        return found

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> GameSpec:
        """Return the spec that `plain` described."""
        found = dict(plain)
        found["observation_space"] = space_of(found["observation_space"])
        found["action_names"], found["goal_names"] = tuple(found["action_names"]), tuple(found["goal_names"])
        if found.get("layout") is not None:
            layout = plain_layout(found["layout"])
            fields: dict[str, Any] = {k: tuple(x) if isinstance(x, list) else x for k, x in layout.items()}
            found["layout"] = GridLayout(**fields)
        return cls(**found)

    def make(self) -> Game | VectorEnv:
        """Return a new game, or environment, of this description.

        Raises:
            ConfigError: the game is not part of this project.
        """
        options = {name: value for name, value in (self.options or {}).items() if name != "name"}
        if "make" in options:
            return envs.CopyableGame(**options) if self.searchable else envs.PettingZooEnv(**options)
        kind = getattr(games, self.name, None)
        if not (isinstance(kind, type) and issubclass(kind, Game)):
            raise ConfigError(f"{self.name} is not a game of omg_lightning: build it with its own class")
        return kind(**options)


def plain_layout(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return a layout's fields in plain values; fields that an older version lacks have their defaults."""
    whole = {**GridLayout._field_defaults, **layout}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in whole.items()}


Factory = Callable[..., Any]  # a class, or a `functools.partial` of one that holds its own settings


def class_of(factory: Factory) -> type:
    """Return the class whose instances a factory makes."""
    if isinstance(factory, type):
        return factory
    if isinstance(factory, partial):
        for each in (factory.func, *factory.args):
            if isinstance(each, type):
                return each
    raise ConfigError(f"got {factory!r}: expected a class, or functools.partial of a class with its settings; give one")


def plain_part(factory: Factory | Mapping[str, Any]) -> dict[str, Any]:
    """Return a factory as plain values, `class_path` and `init_args`, as in a configuration file."""
    if isinstance(factory, Mapping):
        return dict(factory)
    kind = class_of(factory)
    given = factory.keywords if isinstance(factory, partial) else {}
    arguments = {name: _plain(value) for name, value in given.items()}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}


def part_of(plain: Mapping[str, Any] | Factory, base: type) -> Factory:
    """Return the factory that `plain_part` described; a factory is returned as it is.

    Args:
        plain: `class_path` and `init_args`, possibly from an untrusted file.
        base: required base class; no other class is ever called.

    Raises:
        ConfigError: the class cannot be found, has another base class, or lacks a setting.
    """
    if not isinstance(plain, Mapping):
        return plain
    path = plain["class_path"]
    module, _, name = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"cannot find {path} ({error}): run from the folder that holds it, or install it") from error
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ConfigError(f"{path} is not a subclass of {base.__name__}: give a class that inherits from it")
    return partial(kind, **_settings(kind, plain.get("init_args") or {}))


def _settings(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return constructor arguments from plain values; groups of settings become dataclasses.

    Raises:
        ConfigError: this version has no such setting.
    """
    known = signature(kind).parameters
    nested = {each.name: each.default_factory for each in fields(kind)} if is_dataclass(kind) else {}
    found = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"{kind.__name__} has no setting {name!r}: expected one of {', '.join(known)}")
        # The default of a group within a group is made by its class.
        group: Any = nested.get(name) if isinstance(nested.get(name), type) else type(known[name].default)
        if isinstance(group, type) and is_dataclass(group) and isinstance(value, Mapping):
            value = group(**_settings(group, value))
        found[name] = value
    return found


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
