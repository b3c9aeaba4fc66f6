"""The contract of an environment, as a check for your own environment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from omg_lightning.envs.base import Step, VectorEnv
from omg_lightning.games import checks
from omg_lightning.games.base import replace_illegal
from omg_lightning.spaces import check_space, dtype_of
from omg_lightning.testing.report import Report
from omg_lightning.testing.views import check_values
from omg_lightning.types import NO_GOAL

_WILD = 3  # random actions reach this far below 0 and above A - 1
_RELATIVE, _ABSOLUTE = 1e-5, 1e-6  # sums of floats may depend on the size of a batch


def check_env(env: VectorEnv, batch_size: int = 4, seed: int = 0) -> None:
    """Check that `env` keeps the contract of `omg_lightning.envs.VectorEnv`.

    The check plays the same episodes five times, with random actions, illegal ones among them: once to look at each
    step, once more with the same actions, once with illegal actions replaced, once without the finished environments,
    and once with one of them restarted, if the environment can do that. Its time grows with `max_steps`, so use short
    episodes. Torch's global random state is not changed.

    Args:
        env: the environment to check. It is reset several times.
        batch_size: B, how many episodes are played at once, at least 2.
        seed: seed of all randomness.

    Raises:
        CheckError: the environment breaks the contract. One sentence says what was got, what was expected, and the
            cure.
        ConfigError: `batch_size` is less than 2.
    """
    batch_size = checks.whole("batch_size", batch_size, 2)
    if isinstance(env, type):
        Report("check_env").fail("env", f"the class {env.__name__}", "an environment", f"call it: {env.__name__}(...)")
    if not isinstance(env, VectorEnv):
        got = f"an instance of {type(env).__name__}"
        cure = "derive it from that; PettingZooEnv wraps a PettingZoo environment, and RulesEnv a Game"
        Report("check_env").fail("env", got, "an instance of a subclass of omg_lightning.envs.VectorEnv", cure)
    check = _Check(env, batch_size, seed)
    check.attributes()
    with torch.random.fork_rng(devices=[]):
        check.episodes()
        check.same_seed()
        check.illegal_actions()
        check.keep()
        check.restart()


class _Check:
    """Plays an environment and checks it.

    Args:
        env: the environment to check.
        batch_size: B.
        seed: of the episodes and of the actions.
    """

    def __init__(self, env: VectorEnv, batch_size: int, seed: int) -> None:
        self.env, self.batch_size, self.seed = env, batch_size, seed
        self.report = Report(type(env).__name__)
        self.steps: list[Step] = []  # of the first play, the reset first
        self.actions: list[Tensor] = []  # int64 [B, P] played after each of them

    def attributes(self) -> None:
        """Check sizes, names and the space."""
        report, env = self.report, self.env
        for member in ("num_players", "num_actions", "max_steps"):
            value, cure = self._attribute(member), f"set {member} to one"
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            report.require(whole, member, repr(value), "a whole number >= 1", cure)
        report.require(
            isinstance(self._attribute("name"), str), "name", repr(env.name), "a string", "set name to a string"
        )
        right = isinstance(env.noop, int) and 0 <= env.noop < env.num_actions
        expected = f"the index of an action, 0 to {env.num_actions - 1}"
        report.require(right, "noop", repr(env.noop), expected, "set noop to the action that replaces an illegal one")
        for member, count in (("action_names", env.num_actions), ("agent_names", env.num_players)):
            names = self._attribute(member)
            right = isinstance(names, tuple) and len(set(names)) == len(names) == count
            right = right and all(isinstance(name, str) for name in names)
            expected, cure = f"a tuple of {count} different names", f"set {member} to such a tuple"
            report.require(right, member, repr(names), expected, cure)
        right = isinstance(env.goal_names, tuple)
        report.require(right, "goal_names", repr(env.goal_names), "a tuple of names", "use () for none")
        space, cure = self._attribute("observation_space"), "set it to a gymnasium Box or MultiBinary"
        report.call("observation_space", check_space, space, report.name, expected="a space of tensors", cure=cure)
        report.call("observation_space", dtype_of, space, expected="a dtype of torch", cure="use float32 or uint8")

    def episodes(self) -> None:
        """Play whole episodes, and check each step."""
        env, report = self.env, self.report
        generator = torch.Generator().manual_seed(self.seed)
        now = self.reset()
        self._check_reset(now)
        self.steps = [now]
        left = torch.zeros_like(now.active)
        for time in range(env.max_steps + 1):
            over = not bool(now.active.any())
            if time == env.max_steps:
                cure = "mark the seats that are left as truncated with step max_steps"
                report.nowhere(now.active, "step", f"an active seat after max_steps={time} steps", "none", cure)
            actions = self._random_actions(now, generator)
            kept, given = Step(*(field.clone() for field in now)), actions.clone()
            after = self.step(actions)
            name = _difference(kept, now, exact=True) or ("" if torch.equal(given, actions) else "actions")
            got, cure = (
                f"a changed `{name}` in an earlier Step or argument",
                "return new tensors, and clone the actions",
            )
            report.require(not name, "step", got, "unchanged values", cure)
            self._check_step(now, after, left)
            left |= now.active & ~after.active
            self.steps.append(after)
            self.actions.append(actions)
            now = after
            if over:  # one more step was played after the end
                return

    def same_seed(self) -> None:
        """Play the same actions after a reset with the same seed."""
        cure = "draw all randomness from the generator given to reset, and keep no state from earlier episodes"
        expected = "equal values for the same seed and actions"
        self._compare(self.reset(), self.steps[0], "reset", "at a second time", expected, cure)
        for actions, before in zip(self.actions, self.steps[1:], strict=True):
            self._compare(self.step(actions), before, "step", "at a second time", expected, cure)

    def illegal_actions(self) -> None:
        """Play the same actions, with illegal ones replaced."""
        self.reset()
        cure = "call omg_lightning.envs.base.replace_illegal first in step"
        for now, actions, after in zip(self.steps[:-1], self.actions, self.steps[1:], strict=True):
            cleaned = replace_illegal(actions, now.legal, self.env.noop)
            expected = "the result of noop, or of the first legal action if noop is illegal"
            self._compare(self.step(cleaned), after, "step", "for illegal actions", expected, cure)

    def keep(self) -> None:
        """Play the same actions in the unfinished environments, in reverse order."""
        now, rows = self.reset(), torch.arange(self.batch_size)
        cure = "continue environment index[r] in row r, and compute each row from itself alone"
        for actions, after in zip(self.actions, self.steps[1:], strict=True):
            going = now.active.any(-1).nonzero()[:, 0].flip(0)
            if len(going) == 0:
                return
            self.report.call("keep", self.env.keep, going, expected="any rows, int64 [R]")
            rows = rows[going]
            now = self.step(actions[rows])
            expected = "the same result as among all environments"
            same = Step(*(field[rows] for field in after))
            self._compare(now, same, "keep", "after rows were dropped", expected, cure, exact=False)

    def restart(self) -> None:
        """Restart the first environment after a step, and play the same actions in the others."""
        env, generator = self.env, torch.Generator().manual_seed(self.seed + 2)
        if not env.restarts:
            return
        self.reset()
        self.step(self.actions[0])
        fresh = self.report.call(
            "restart", env.restart, torch.tensor([0]), generator, expected="a Step of the restarted rows"
        )
        self._check_reset(self._tensors("restart", fresh, 1), "restart")
        cure = "change only the rows that restart, and count the steps of each row by itself"
        for steps, (actions, after) in enumerate(zip(self.actions[1:], self.steps[2:], strict=True), start=1):
            now = self.step(actions)
            one, other = (Step(*(field[1:] for field in step)) for step in (now, after))
            expected = "the same result in the other rows"
            self._compare(one, other, "step", "after a row was restarted", expected, cure, exact=False)
            late = steps == env.max_steps and bool(now.active[0].any())
            got = f"an active seat {steps} steps after restart"
            self.report.require(not late, "step", got, f"none after max_steps={steps} steps", cure)

    def reset(self) -> Step:
        """Reset with the seed, and check the tensors."""
        generator, what = torch.Generator().manual_seed(self.seed), "a Step for any batch size and generator"
        return self._tensors(
            "reset", self.report.call("reset", self.env.reset, self.batch_size, generator, expected=what)
        )

    def step(self, actions: Tensor) -> Step:
        """Step, and check the tensors."""
        found = self.report.call("step", self.env.step, actions, expected="a Step for any integers as actions")
        return self._tensors("step", found, len(actions))

    def _attribute(self, member: str) -> Any:
        expected, cure = "a value after __init__", f"set {member} in __init__"
        return self.report.call(member, getattr, self.env, member, expected=expected, cure=cure)

    def _tensors(self, member: str, found: Any, rows: int | None = None) -> Step:
        """Check shapes, dtypes and values of a Step."""
        report, env = self.report, self.env
        report.require(
            isinstance(found, Step), member, type(found).__name__, "a Step", "return omg_lightning.envs.Step"
        )
        rows, seats = self.batch_size if rows is None else rows, env.num_players
        check_values(report, member, env.observation_space, found.observation, rows, seats)
        report.tensor(member, found.legal, (rows, seats, env.num_actions), "[L, P, A]", (torch.bool,), "legal")
        dtypes = {"reward": torch.float32, "achieved": torch.int64}
        for name in ("active", "reward", "terminated", "truncated", "achieved"):
            dtype = dtypes.get(name, torch.bool)
            report.tensor(member, getattr(found, name), (rows, seats), "[L, P]", (dtype,), name)
        active, legal = found.active, found.legal
        cure = "leave at least one action legal"
        report.nowhere(~legal.any(-1), member, "no legal action", "one for each seat", cure)
        others = legal.clone()
        others[..., env.noop] = False
        wrong = ~active & (others.any(-1) | ~legal[..., env.noop])
        expected, cure = "only noop", "for inactive seats, make legal True for noop and False for all other actions"
        report.nowhere(wrong, member, "for an inactive seat other legal actions", expected, cure)
        both, cure = found.terminated & found.truncated, "set one of them: terminated if a rule ended the seat"
        report.nowhere(both, member, "a seat both terminated and truncated", "one of them", cure)
        report.nowhere(~found.reward.isfinite(), member, "the reward", "a finite one", "correct it", found.reward)
        beyond = (found.achieved < NO_GOAL) | (found.achieved >= len(env.goal_names))
        expected, cure = "NO_GOAL (-1), or the index of a goal", "return that, or add the goal to goal_names"
        report.nowhere(beyond, member, "the achieved goal", expected, cure, found.achieved)
        return found

    def _check_reset(self, now: Step, member: str = "reset") -> None:
        report, cure = self.report, "start with zeros"
        report.nowhere(now.reward != 0, member, "the reward", "0 before the first step", cure, now.reward)
        ended, cure = now.terminated | now.truncated, "return False for every seat"
        report.nowhere(ended, member, "a seat that ended", "none before the first step", cure)
        empty, cure = ~now.active.any(-1), "start every episode with active seats"
        report.nowhere(empty, member, "an environment without active seats", "some in each", cure, letters=["row"])
        game = self.env.game
        if game is None:
            return
        seen = self.report.call("state", lambda: game.observe(self.env.state), expected="a state that game can observe")
        same, cure = (
            torch.equal(seen[: len(now.observation)], now.observation),
            "return the state of the environments in play",
        )
        self.report.require(same, "state", "a state with other views", "the views that reset returned", cure)

    def _check_step(self, now: Step, after: Step, left: Tensor) -> None:
        """Check the changes of a step; `left`, bool `[B, P]`: seats that had left before `now`."""
        report, went = self.report, now.active & ~after.active
        over = ~now.active.any(-1)
        back, cure = after.active & (left | over[:, None]), "keep active False for a seat until the episode is over"
        report.nowhere(back, "step", "a seat that had left and is back", "no seat to return", cure)
        ended = after.terminated | after.truncated
        got, expected = "neither terminated nor truncated for a seat that left", "one of them"
        report.nowhere(went & ~ended, "step", got, expected, "set one of them when a seat becomes inactive")
        got, expected = "terminated or truncated for a seat that did not leave with this step", "False"
        report.nowhere(ended & ~went, "step", got, expected, "set it only in the step in which a seat becomes inactive")
        prosocial = self.env.game is not None and self.env.game.prosocial
        earns = now.active.any(-1, keepdim=True) if prosocial else now.active
        got, cure = "for a seat that was not active the reward", "return 0 there"
        report.nowhere((after.reward != 0) & ~earns, "step", got, "0", cure, after.reward)
        absent, cure = (after.achieved != NO_GOAL) & ~now.active, "return NO_GOAL for inactive seats"
        report.nowhere(absent, "step", "for an inactive seat the goal", "NO_GOAL (-1)", cure, after.achieved)
        moved = (now.observation != after.observation).flatten(1).any(-1) & over
        got, cure = "another observation of an environment that is over", "change nothing if no seat is active"
        report.nowhere(moved, "step", got, "the last one", cure, letters=["row"])

    def _random_actions(self, now: Step, generator: torch.Generator) -> Tensor:
        """Draw legal actions, int64 `[B, P]`; one in eight is any integer near the range of the actions."""
        legal = now.legal.cpu().float()
        chosen = torch.multinomial(legal.flatten(0, 1), 1, generator=generator).view(legal.shape[:2])
        wild = torch.randint(-_WILD, self.env.num_actions + _WILD, chosen.shape, generator=generator)
        return torch.where(torch.rand(chosen.shape, generator=generator) < 1 / 8, wild, chosen)

    def _compare(
        self, found: Step, before: Step, member: str, when: str, expected: str, cure: str, exact: bool = True
    ) -> None:
        name = _difference(before, found, exact)
        self.report.require(not name, member, f"another `{name}` {when}", expected, cure)


def _difference(one: Step, other: Step, exact: bool) -> str:
    """Return the name of the first field in which two steps differ; empty for none."""
    for name, a, b in zip(one._fields, one, other, strict=True):
        same = torch.equal(a, b) if exact or not a.is_floating_point() else torch.allclose(a, b, _RELATIVE, _ABSOLUTE)
        if not same:
            return name
    return ""
