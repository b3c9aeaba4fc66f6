"""Shared tools of the checks of encoders, opponent models and algorithms: construct, call and compare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from omg_lightning.envs.base import Step, VectorEnv, as_env
from omg_lightning.games.base import Game
from omg_lightning.spaces import is_binary
from omg_lightning.testing.report import Report
from omg_lightning.types import ConfigError, View, take

HIDDEN = 16  # width of the networks of a check
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5  # sums of floats depend on the size of a batch
_PURE = "return new tensors, by `x + y` instead of `x += y`, and clone tensors before you change them"
_DRAWS = "draw from the given generator, without dropout, and do not change self in a call"


def report_of(check: str, part: Any, kind: type) -> Report:
    """Return a report in the name of a class; raise a CheckError unless it is of `kind`, or a factory of it.

    Args:
        check: name of the public function, for messages about objects of another kind.
        part: a class, a `functools.partial` of one, another callable, or an instance.
        kind: the base class of the contract.
    """
    made = part.func if isinstance(part, partial) else part
    base = f"{kind.__module__.rpartition('.')[0]}.{kind.__name__}"
    if isinstance(made, type):
        fits, name = issubclass(made, kind), made.__name__
        Report(check).require(fits, "part", f"the class {name}", f"a subclass of {base}", "derive it from that")
        lacks = sorted(getattr(made, "__abstractmethods__", ()))
        got, cure = f"no {' and no '.join(lacks)}", f"write `def {lacks[0] if lacks else ''}(self, ...)`"
        report = Report(name)
        report.require(not lacks, "__init__", got, f"all abstract methods of {base}", cure)
        check_weights(report, getattr(made, "loss_weights", {}))
        return report
    known = isinstance(made, kind) or (callable(made) and not isinstance(made, nn.Module))
    got = f"an instance of {type(made).__name__}"
    Report(check).require(known, "part", got, f"a subclass of {base}, or an instance of one", "derive it from that")
    return Report(type(made).__name__ if isinstance(made, kind) else getattr(made, "__name__", check))


def made(report: Report, factory: Callable[..., Any], kind: type, arguments: tuple[Any, ...], names: str) -> Any:
    """Return the result of a factory.

    Args:
        report: raises the failure.
        factory: a class, or a `functools.partial` of one.
        kind: the base class of the contract.
        arguments: its arguments.
        names: the names of the arguments, such as `spec, goal_size`.

    Raises:
        CheckError: the factory fails, or returns another type.
        ConfigError: the class rejects the game with its own message.
    """
    try:
        part = factory(*arguments)
    except ConfigError:
        raise
    except Exception as error:  # the author's code may fail in any way
        report.blame("__init__", error, f"a part made of ({names}), or ConfigError where it cannot play the game")
    right = isinstance(part, kind)
    got, expected = type(part).__name__, f"an instance of a subclass of {kind.__name__}"
    report.require(right, "__init__", got, expected, "return one, or pass the class itself")
    return part


def environment_of(check: str, game: Game | VectorEnv) -> VectorEnv:
    """Return `game` as an environment; raise a CheckError if it is neither a game nor an environment."""
    cure = f"pass an instance, such as {game.__name__}(...)" if isinstance(game, type) else "pass one of these"
    got = f"the class {game.__name__}" if isinstance(game, type) else f"an instance of {type(game).__name__}"
    Report(check).require(isinstance(game, Game | VectorEnv), "game", got, "a Game or a VectorEnv", cure)
    return as_env(game)


def check_weights(report: Report, weights: object) -> None:
    """Check `loss_weights` of a class."""
    right = isinstance(weights, Mapping) and all(isinstance(name, str) for name in weights)
    right = right and all(isinstance(weight, int | float) and weight >= 0 for weight in weights.values())  # type: ignore[attr-defined]
    cure = 'set it to a dict, such as {"coplayer": 1.0}'
    report.require(right, "loss_weights", repr(weights), "weights of at least 0 by the names of losses", cure)


class Walk:
    """Plays an environment with random legal actions, so that methods can be called at each step.

    Args:
        env: the environment.
        rows: B, number of parallel environments.
        seed: of the game and of the actions.
    """

    def __init__(self, env: VectorEnv, rows: int, seed: int) -> None:
        self.env, self.generator = env, seeded(seed)
        self.now, self.time = env.reset(rows, self.generator), 0
        self.binary = is_binary(env.observation_space)

    @property
    def view(self) -> View:
        """The current step, as in a rollout."""
        now = self.now
        time = torch.full((len(now.active),), self.time) / self.env.max_steps
        observation = now.observation.float() if self.binary else now.observation
        return View(observation, now.legal, time, now.active, now.reward)

    def step(self) -> tuple[Tensor, Step]:
        """Play random legal actions; return the actions, int64 `[L, P]`, and the next step."""
        legal = self.now.legal.float()
        actions = torch.multinomial(legal.flatten(0, 1), 1, generator=self.generator).view(legal.shape[:2])
        self.now, self.time = self.env.step(actions), self.time + 1
        return actions, self.now

    def drop(self) -> Tensor:
        """Drop finished environments, and return the index of the others, int64 `[R]`, in reverse order."""
        going = self.now.active.any(-1).nonzero()[:, 0].flip(0)
        self.now = Step(*(field[going] for field in self.now))
        self.env.keep(going)
        return going


def seeded(seed: int) -> torch.Generator:
    """Return a new generator."""
    return torch.Generator().manual_seed(seed)


def disturb(seed: int) -> None:
    """Set torch's global random state on the CPU; `torch.manual_seed` takes a hundred times as long."""
    torch.default_generator.manual_seed(seed)


def tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """Return the tensors in a nested record by name; other values are omitted."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = value._asdict()  # type: ignore[attr-defined]
    elif isinstance(value, Mapping):
        parts = {str(key): part for key, part in value.items()}
    elif isinstance(value, tuple | list):
        parts = {str(index): part for index, part in enumerate(value)}
    else:
        return {}
    return {key: part for each, inner in parts.items() for key, part in tensors(inner, f"{name}.{each}").items()}


def difference(one: Any, other: Any, exact: bool = True) -> str | None:
    """Return the name of the first tensor in which two records differ, or None; NaN equals NaN."""
    first, second = tensors(one), tensors(other)
    for name in {**first, **second}:
        a, b = first.get(name), second.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            return name
        margin = (0.0, 0.0) if exact or not a.is_floating_point() else (_RELATIVE, _ABSOLUTE)
        if not torch.allclose(a, b, *margin, equal_nan=True):
            return name
    return None


def pure(report: Report, member: str, function: Callable[..., Any], *args: Any, expected: str) -> Any:
    """Return `function(*args)`; check that it changes no argument, and that a second call returns the same.

    The two calls have different states of torch's global random generator.

    Args:
        report: raises the failure.
        member: name of the method.
        function: the function. If it needs a generator, it must make a new one in each call.
        *args: records of tensors.
        expected: what the contract asks for.
    """
    kept = {name: value.clone() for name, value in tensors(args).items()}
    disturb(1)
    found = report.call(member, function, *args, expected=expected)
    changed = difference(kept, tensors(args)) is not None
    report.require(not changed, member, "an argument that it changed in place", "unchanged arguments", _PURE)
    disturb(2)
    again = report.call(member, function, *args, expected=expected)
    same = difference(found, again) is None
    report.require(same, member, "another result at a second call", "the same for the same arguments", _DRAWS)
    return found


def check_rows(report: Report, member: str, function: Callable[..., Any], args: tuple[Any, ...], found: Any) -> None:
    """Check that rows do not depend on each other: half of them, in another order, must give the same.

    Args:
        report: raises the failure.
        member: name of the method.
        function: the called function.
        args: its arguments; records of tensors with the rows as their leading dimension.
        found: its result for all rows.
    """
    count = len(next(iter(tensors(args).values())))
    index = torch.arange(count).flip(0)[: max(1, count // 2)]
    some = tuple(take(arg, index) for arg in args)
    expected = "any number of rows, in any order"
    part = report.call(member, function, *some, expected=expected)
    wanted = {name: value[index] for name, value in tensors(found).items()}
    same = difference(tensors(part), wanted, exact=False) is None
    cure = "compute each row from itself alone, for example with LayerNorm instead of BatchNorm"
    report.require(same, member, "another result for a row among other rows", "independent rows", cure)


def check_finite(report: Report, member: str, value: Tensor, what: str = "") -> None:
    """Raise a CheckError if a float tensor holds NaN or infinity."""
    got, cure = f"{what or 'a value'} that is not finite", "avoid divisions by zero and logarithms of zero"
    report.require(value.isfinite().all(), member, got, "finite numbers", cure)


def check_gradients(report: Report, part: nn.Module, loss: Tensor, what: str) -> None:
    """Check that a loss reaches every trained parameter of a component, and that its gradients are finite.

    Args:
        report: raises the failure.
        part: the component with the parameters.
        loss: a scalar.
        what: description of the loss.
    """
    cure = "compute it from the parameters, without detach, no_grad or changes in place"
    report.require(loss.requires_grad, "parameters", f"no gradient of {what}", "a gradient", cure)
    part.zero_grad(set_to_none=True)
    report.call("parameters", loss.backward, expected=f"gradients of {what}", cure=cure)
    for name, parameter in part.named_parameters():
        got, expected = f"no gradient of {what} for {name!r}", "one for every parameter"
        cure = f"use {name} in {what}, or freeze it by requires_grad_(False)"
        report.require(parameter.grad is not None or not parameter.requires_grad, "parameters", got, expected, cure)
        if parameter.grad is not None:
            check_finite(report, "parameters", parameter.grad, f"a gradient of {name!r}")


def check_names(report: Report, part: nn.Module, names: Collection[str]) -> None:
    """Check that calls have not added parameters or buffers."""
    late = [name for name in part.state_dict() if name not in names]
    got, cure = f"{late}, which a call made", "make all parameters and buffers in __init__"
    report.require(not late, "state_dict", got, "the names directly after __init__", cure)


def check_state(report: Report, part: nn.Module, fresh: nn.Module, results: Callable[[Any], Any], what: str) -> None:
    """Check that a new component with the state of `part` returns the same results.

    Args:
        report: raises the failure.
        part: a trained component.
        fresh: an untrained one with the same settings.
        results: function that returns the results of a component to compare.
        what: the methods that `results` calls.
    """
    state = {name: value.clone() for name, value in part.state_dict().items()}
    expected = "a state that a new instance with the same settings can load"
    cure = "make all parameters and buffers in __init__, with sizes that depend only on its arguments"
    report.call("state_dict", fresh.load_state_dict, state, expected=expected, cure=cure)
    name = difference(results(part), results(fresh), exact=False)
    got = f"other results of {what} after a checkpoint was loaded"
    cure = "store learned values in parameters, or in buffers by self.register_buffer"
    report.require(name is None, "state_dict", got, "a state with all learned values", cure)
