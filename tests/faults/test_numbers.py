"""Numbers that a user can set: negative ones, ones that are not finite, and 0 where it means nothing, are refused."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from inspect import isabstract, signature

import pytest

import callbacks
from omg_lightning import algorithms, encoders, games, opponents, rewards
from omg_lightning.actors import PlannerConfig
from omg_lightning.data.settings import AdaptationConfig, EvaluationConfig, OfflineConfig, TrainingConfig
from omg_lightning.encoders import MLP, ModelSpec
from omg_lightning.envs.base import as_env
from omg_lightning.opponents.base import MixtureConfig
from omg_lightning.opponents.explicit import BeliefConfig
from omg_lightning.opponents.goal_vae import VAEConfig
from omg_lightning.opponents.selector import SelectorConfig
from omg_lightning.opponents.transition import TransitionConfig
from omg_lightning.search import SearchConfig
from omg_lightning.spec import GameSpec
from omg_lightning.training.agent import NetworkConfig
from omg_lightning.types import ConfigError

SPEC = ModelSpec(GameSpec.of(as_env(games.StagHunt("2h1s_4x4"))), MLP, 8, "shared")
GROUPS = (TrainingConfig, OfflineConfig, EvaluationConfig, AdaptationConfig, NetworkConfig, PlannerConfig, SearchConfig)
GROUPS += (VAEConfig, SelectorConfig, BeliefConfig, MixtureConfig, TransitionConfig)
GAMES = {games.StagHunt: {"preset": "2h1s_4x4"}, games.Snowdrift: {}, games.MatrixGame: {"preset": "chicken"}}
MAY_BE_NEGATIVE = {"stag_reward", "hare_reward", "drift_reward", "shovel_cost", "angle"}
MAY_BE_ZERO = MAY_BE_NEGATIVE | {
    *("rounds", "num_stags", "num_hares", "num_blocks", "steps_after_first_hunt", "memory", "episode"),
    *("c_puct", "c_visit", "c_scale", "gumbel_scale", "td_lambda", "discount", "gae_lambda", "num_simulations"),
    *("alpha", "floor", "start", "temperature", "weight", "entropy", "slowness", "leak", "lookahead"),
    *("action", "least_span", "next_actions", "kl_weight", "kl_warmup", "free_bits"),
}


def makers() -> Iterator[tuple[type, Callable]]:
    """Every class with numbers that a user can set, and how it is made with all else as it is."""
    yield from ((kind, kind) for kind in GROUPS)
    yield from ((kind, partial(kind, **given)) for kind, given in GAMES.items())
    for package, base, given in (
        (opponents, opponents.OpponentModel, (SPEC,)),
        (algorithms, algorithms.Algorithm, (SPEC, 4)),
        (encoders, encoders.Encoder, (SPEC.game.observation_space, SPEC.game.layout, 8)),
        (rewards, rewards.Reward, ()),
        (callbacks, callbacks.RunCheckpoint.__mro__[-2], ()),
    ):
        found = [getattr(package, name) for name in package.__all__]
        kinds = [kind for kind in found if isinstance(kind, type) and issubclass(kind, base) and not isabstract(kind)]
        yield from ((kind, partial(kind, *given)) for kind in kinds)


def numbers_of(kind: type) -> Iterator[tuple[str, bool]]:
    """The names of the numbers in a constructor, and which of them are whole ones."""
    for name, parameter in signature(kind).parameters.items():
        types = str(parameter.annotation).removeprefix("<class '").removesuffix("'>").split(" | ")
        if {"int", "float"} & set(types) and name not in ("goal_size", "hidden" if kind not in GROUPS else ""):
            yield name, "float" not in types


def refused_values(name: str, whole: bool) -> list[float]:
    values: list[float] = [] if name in MAY_BE_NEGATIVE else [-1]
    return [*values, *([] if name in MAY_BE_ZERO else [0]), *([] if whole else [math.nan, math.inf, -math.inf])]


CASES = [
    pytest.param(make, name, value, id=f"{kind.__name__}-{name}-{value}")
    for kind, make in makers()
    for name, whole in numbers_of(kind)
    for value in refused_values(name, whole)
]


@pytest.mark.parametrize(("make", "name", "value"), CASES)
def test_a_number_out_of_range_is_refused_by_name_in_one_line(make, name, value):
    with pytest.raises(ConfigError, match=name) as caught:
        make(**{name: value})
    assert "\n" not in str(caught.value)


def test_the_table_has_the_numbers_of_all_parts():
    assert len(CASES) > 200
