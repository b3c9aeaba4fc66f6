"""The contract of a reward, as a check for your own reward."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from omg_lightning.algorithms import PPO
from omg_lightning.encoders import ModelSpec
from omg_lightning.envs.base import VectorEnv
from omg_lightning.games import Game
from omg_lightning.games.checks import whole
from omg_lightning.opponents import Direct, OpponentModel
from omg_lightning.rewards import Reward
from omg_lightning.samples import TrainingBatch
from omg_lightning.spec import GameSpec
from omg_lightning.testing.episodes import Lesson, lessons, longer, other_true_goals, spoiled
from omg_lightning.testing.learning import Learning
from omg_lightning.testing.parts import (
    HIDDEN,
    check_finite,
    check_names,
    check_weights,
    difference,
    environment_of,
    made,
    pure,
    report_of,
    seeded,
)
from omg_lightning.testing.report import Report
from omg_lightning.types import Episodes


def check_reward(
    reward: Callable[[], Reward],
    game: Game | VectorEnv,
    opponent: Callable[[ModelSpec], OpponentModel] = Direct,
    batch_size: int = 6,
    seed: int = 0,
) -> None:
    """Check that `reward` keeps the contract of `omg_lightning.rewards.Reward`.

    The check plays some episodes with PPO and scripted players; a reward with parameters is trained for a few steps.
    Its time grows with `max_steps`, so use a small game. Torch's global random state is not changed.

    Args:
        reward: a class or a `functools.partial` of one, as `--model.reward` takes it.
        game: the game of the check.
        opponent: the opponent model that the reward gets.
        batch_size: B, number of parallel environments, at least 2.
        seed: of all randomness.

    Raises:
        CheckError: the reward breaks the contract. One sentence says what was got, what was expected, and the cure.
        ConfigError: the reward or the opponent model rejects this game with its own message; or `batch_size` is less
            than 2.
    """
    batch_size = whole("batch_size", batch_size, 2)
    report, env = report_of("check_reward", reward, Reward), environment_of("check_reward", game)
    fits, cure = not isinstance(reward, Reward), f"pass the class, {report.name}, or functools.partial of it"
    report.require(fits, "__init__", "an instance", "a class or a functools.partial", cure)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spec = ModelSpec(GameSpec.of(env), hidden=HIDDEN)
        part, fresh = (made(report, reward, Reward, (), "") for _ in range(2))
        for each in (part, fresh):
            report.call("build", each.build, spec, expected="networks for any game")
        right = isinstance(part.same_as_game, bool)
        report.require(right, "same_as_game", repr(part.same_as_game), "True or False", "set it to one of them")
        check_weights(report, part.loss_weights)
        model, algorithm = made(report, opponent, OpponentModel, (spec,), "spec"), None
        algorithm = PPO(spec, model.size)
        found = lessons(report, env, algorithm.actor(model), batch_size, seed)
        for lesson in found:
            _check_values(report, part, model, lesson, spec.game)
        learns = isinstance(part, nn.Module)
        got, cure = f"losses {list(part.loss_weights)} without a torch.nn.Module", "also inherit from torch.nn.Module"
        report.require(learns or not part.loss_weights, "loss_weights", got, "losses of parameters", cure)
        if learns:
            check_names(report, part, fresh.state_dict())
            _Teacher(report, part, fresh, model, algorithm, found, seed).all()


def _check_values(report: Report, reward: Reward, model: OpponentModel, lesson: Lesson, game: GameSpec) -> None:
    """Check the result of `reward` for the episodes of one lesson."""
    episodes, goals = lesson.episodes, len(game.goal_names)

    def ask(given: Episodes) -> Tensor:
        return reward.reward(given, model)

    found = pure(report, "reward", ask, episodes, expected=f"rewards [T, B, P] of {lesson.name}")
    report.tensor("reward", found, episodes.reward.shape, "[T, B, P]", (torch.float32,))
    check_finite(report, "reward", found, f"in {lesson.name} a reward")
    report.require(not found.requires_grad, "reward", "a gradient", "none", "compute it in torch.no_grad()")
    over = (found != 0) & ~episodes.active.any(-1, keepdim=True)
    cure = "multiply it by episodes.active"
    report.nowhere(over, "reward", "after the end", "0", cure, found, ("step", "row", "seat"))
    same = not reward.same_as_game or torch.equal(found, episodes.reward)
    got, cure = (
        "another reward than the game's",
        "set same_as_game to False, since a search plans with the game's rewards",
    )
    report.require(same, "same_as_game", got, "the game's reward, since same_as_game is True", cure)

    def unlike(other: Episodes, wanted: Tensor, what: str, cure: str) -> None:
        again = report.call("reward", ask, other, expected=f"rewards of {lesson.name}")
        alike = difference(again[: len(wanted)], wanted, exact=False) is None
        report.require(alike, "reward", f"another reward for {what}", "the same reward", cure)

    cure = "read only steps where active is True, by index or torch.where, since NaN * 0 is NaN"
    unlike(spoiled(episodes, game.num_actions, goals), found, "other padding", cure)
    unlike(longer(episodes), found, "more padding", "average over active steps alone")
    if not model.needs_true_goal:
        cure = "do not read episodes.true_goal"
        unlike(other_true_goals(episodes, goals), found, "other true goals", cure)
    index = torch.arange(episodes.active.shape[1]).flip(0)[::2]
    cure = "compute each episode's rewards from that episode alone"
    unlike(episodes.map(lambda field: field[:, index]), found[:, index], "an episode among other ones", cure)


class _Teacher(Learning):
    """Checks the losses of a reward with parameters."""

    def __init__(
        self,
        report: Report,
        part: Any,
        fresh: Any,
        model: OpponentModel,
        algorithm: PPO,
        found: list[Lesson],
        seed: int,
    ) -> None:
        game = algorithm.spec.game

        def batch(part: Any, episodes: Episodes, offline: bool) -> TrainingBatch:
            noise, prepare = seeded(seed), algorithm.prepare
            given = (episodes, 100, offline, 0, game.max_steps, noise, prepare, model.targets)
            return TrainingBatch(*given, episodes.reward)

        super().__init__(report, part, fresh, game, found, batch, model.needs_true_goal)
        self.model, self.episodes = model, found[1].episodes

    def all(self, *_: Any) -> None:
        """Check everything; two rewards are compared by their results."""
        super().all(lambda part: [deepcopy(part).reward(self.episodes, self.model)], "reward")
