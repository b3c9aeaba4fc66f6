"""Checks of losses that opponent models and algorithms share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NoReturn

import torch
from torch import Tensor

from omg_lightning.algorithms import Algorithm
from omg_lightning.opponents import OpponentModel
from omg_lightning.samples import TrainingBatch
from omg_lightning.spec import GameSpec
from omg_lightning.testing.episodes import Lesson, longer, other_true_goals, spoiled
from omg_lightning.testing.parts import check_finite, check_gradients, check_names, check_state, difference, disturb
from omg_lightning.testing.report import Report
from omg_lightning.types import ConfigError, Episodes

Learner = OpponentModel | Algorithm | Any  # or a reward with parameters
_STEPS = 2  # training steps on each kind of batch


class Learning:
    """Checks the losses of a component.

    Args:
        report: raises the failures.
        part: the component; the check trains it.
        fresh: another component with the same settings.
        game: names and sizes.
        lessons: the kinds of batches, the two usual ones first.
        batch: makes a training batch of offline or online episodes for a component, the same one each time.
        sees_true_goal: whether the losses may depend on the scripts' true goals.
    """

    def __init__(
        self,
        report: Report,
        part: Learner,
        fresh: Learner,
        game: GameSpec,
        lessons: Sequence[Lesson],
        batch: Callable[[Any, Episodes, bool], TrainingBatch],
        sees_true_goal: bool,
    ) -> None:
        self.report, self.part, self.fresh, self.game = report, part, fresh, game
        self.lessons, self.batch, self.sees_true_goal = lessons, batch, sees_true_goal

    def all(self, results: Callable[[Any], Any], what: str) -> None:
        """Check everything.

        Args:
            results: results of a component while acting, to compare two components.
            what: the methods that `results` calls.
        """
        seen: set[str] = set()
        for index, lesson in enumerate(self.lessons):
            disturb(1)
            found = self.losses(self.copy(), lesson)
            seen |= set(found)
            if index < 2:
                self.same(lesson, found)
        unused = [name for name in self.part.loss_weights if name not in seen]
        got, cure = f"a weight of {unused}, which losses never returns", "return it, or remove it from loss_weights"
        self.report.require(not unused, "loss_weights", got, "the names of losses", cure)
        self.reach()
        self.train()
        check_names(self.report, self.part, self.fresh.state_dict())
        self.checkpoint(results, what)

    def copy(self, part: Learner | None = None) -> Learner:
        """Return a copy of a component, by default of the one under test, to train it or to give it other episodes."""
        expected, cure = (
            "a class that copy.deepcopy copies",
            "keep no tensors with gradients, files or generators in it",
        )
        part = part or self.part
        shared = {id(each): each for each in (part.spec, part.spec.game.observation_space)}  # copying these is slow
        found: Learner = self.report.call("__deepcopy__", deepcopy, part, shared, expected=expected, cure=cure)
        found.log = found.log_dict = _no_log  # type: ignore[method-assign]
        return found

    def losses(self, part: Learner, lesson: Lesson) -> dict[str, Tensor]:
        """Return the losses of one lesson, after a check of names, shapes and values."""
        report, where = self.report, f"in {lesson.name}"
        batch = self.batch(part, lesson.episodes, lesson.offline)
        found: dict[str, Tensor] = report.call("losses", part.losses, batch, expected=f"losses of {lesson.name}")
        report.require(isinstance(found, dict), "losses", type(found).__name__, "a dict", "return tensors by name")
        for name, value in found.items():
            scalar = isinstance(value, Tensor) and value.dim() == 0
            got = f"{name!r} of shape {list(value.shape)}" if isinstance(value, Tensor) else f"{name!r} as {value!r}"
            report.require(scalar, "losses", f"{got} {where}", "a scalar tensor", "take the mean over samples")
            got, cure = f"{name!r} that is not finite {where}", "divide by max(count, 1), and read only active steps"
            report.require(value.isfinite(), "losses", got, "a finite value", cure)
            known, learns = name in part.loss_weights, value.requires_grad
            got, cure = f"{name!r} with a gradient but without a weight", "add it to loss_weights, or detach it"
            report.require(known or not learns, "losses", got, "a weight for each loss", cure)
            got, cure = f"{name!r} without a gradient {where}", "omit it if no parameter is trained"
            report.require(learns or not known, "losses", got, "a loss that depends on parameters", cure)
        return found

    def same(self, lesson: Lesson, found: dict[str, Tensor]) -> None:
        """Check changes that must not change the losses."""
        report, game = self.report, self.game
        disturb(2)  # the first call had another random state
        again = difference(self.losses(self.copy(), lesson), found)
        cure = "draw random numbers from batch.noise, without dropout"
        report.require(again is None, "losses", f"another {_named(again)} at a second call", "the same", cure)
        goals = len(game.goal_names)
        if not self.sees_true_goal:
            told = lesson._replace(episodes=other_true_goals(lesson.episodes, goals))
            name = difference(self.losses(self.copy(), told), found)
            got = f"another {_named(name)} for other true goals"
            cure = "do not read episodes.true_goal; only an upper bound may, with needs_true_goal set"
            report.require(name is None, "losses", got, "losses that do not depend on true goals", cure)
        junk = Lesson(
            f"{lesson.name} with NaN in its padding",
            spoiled(lesson.episodes, game.num_actions, goals),
            lesson.offline,
        )
        name = difference(self.losses(self.copy(), junk), found, exact=False)
        got = f"another {_named(name)} for other padding"
        cure = "read only steps where active is True, by index or torch.where, since NaN * 0 is NaN"
        report.require(name is None, "losses", got, "losses of active steps only", cure)
        more = lesson._replace(episodes=longer(lesson.episodes))
        name = difference(self.losses(self.copy(), more), found, exact=False)
        got, cure = f"another {_named(name)} for more padding", "draw and average only for active steps"
        report.require(name is None, "losses", got, "losses that do not depend on the length of a batch", cure)

    def reach(self) -> None:
        """Check that some loss of a usual batch reaches each trained parameter."""
        part, due = self.copy(), []
        for lesson in self.lessons[:2]:
            found = self.losses(part, lesson)
            due += [value for name, value in found.items() if name in part.loss_weights]
        trained = [name for name, parameter in part.named_parameters() if parameter.requires_grad]
        got, cure = f"no loss for the parameters {trained}", "return a loss, or freeze them by requires_grad_(False)"
        self.report.require(bool(due) or not trained, "losses", got, "a loss offline or online", cure)
        if due:
            check_gradients(self.report, part, torch.stack(due).sum(), "the losses")

    def train(self) -> None:
        """Take training steps in both phases, and check that the weights stay finite."""
        part, weights = self.part, [weight for weight in self.part.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=1e-2) if weights else None
        for lesson in [*self.lessons[:2]] * _STEPS:
            found = self.losses(part, lesson)
            due = [value for name, value in found.items() if name in part.loss_weights]
            if due and optimizer is not None:
                optimizer.zero_grad()
                self.report.call("losses", torch.stack(due).sum().backward, expected="gradients at each step")
                optimizer.step()
            if isinstance(part, OpponentModel):
                self.report.call(
                    "after_step", part.after_step, lesson.offline, expected="an update after a training step"
                )
        for name, weight in part.named_parameters():
            check_finite(self.report, "losses", weight.detach(), f"after training steps the parameter {name!r}")

    def checkpoint(self, results: Callable[[Any], Any], what: str) -> None:
        """Check that a checkpoint holds the whole learned state."""

        def known(part: Learner) -> list[Any]:
            with torch.inference_mode():
                acting = results(part)
            copy = self.copy(part)
            return [acting, *(self.losses(copy, lesson) for lesson in self.lessons[:2])]

        check_state(self.report, self.part, self.fresh, known, f"{what} and losses")


def _named(name: str | None) -> str:
    return repr((name or "").removeprefix("."))


def _no_log(*args: Any, **kwargs: Any) -> NoReturn:
    raise ConfigError(
        "got a call of self.log; expected metrics in the result, which the agent logs: return them detached"
    )
