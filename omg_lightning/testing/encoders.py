"""The contract of an encoder, as a check for your own encoder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from omg_lightning.encoders import Encoder, EncoderFactory
from omg_lightning.envs.base import VectorEnv, as_env
from omg_lightning.games import Game, MatrixGame, StagHunt
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.games.grid.paths import in_rows
from omg_lightning.spaces import Space, is_binary, stored
from omg_lightning.testing.grids import standing
from omg_lightning.testing.parts import (
    HIDDEN,
    Walk,
    check_finite,
    check_gradients,
    check_names,
    check_rows,
    check_state,
    difference,
    environment_of,
    made,
    pure,
    report_of,
    seeded,
)
from omg_lightning.testing.report import Report, describe
from omg_lightning.types import ConfigError

_ROWS, _STEPS = 4, 4  # environments, and steps of the views
_SPACES: tuple[Space, ...] = (
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Box(0, 100, (4,), np.int32),
    spaces.Box(0, 255, (3, 5, 4), np.uint8),
)
_TAKES = "observation_space, layout, hidden"
_READS = "views [M, *shape] at times [M]"


class Views(NamedTuple):
    """Views to read."""

    space: Space
    layout: GridLayout | None
    observation: Tensor  # float [M, *shape]
    time: Tensor  # float [M]
    sparse: Tensor | None = None  # int32 [M, n] the game's own sparse views
    distances: Tensor | None = None  # the sparse views with walking distances


def check_encoder(
    encoder: EncoderFactory | Encoder,
    game: Game | VectorEnv | None = None,
    reads_time: bool = True,
    seed: int = 0,
) -> None:
    """Check that `encoder` keeps the contract of `omg_lightning.encoders.Encoder`.

    Torch's global random state is not changed.

    Args:
        encoder: a class or a `functools.partial` of one, as `--model.encoder` takes it; or an instance, which is not
            changed.
        game: the game of the views. By default a class reads views of a grid, of bits, of real numbers, of counts and
            of an image, and may reject some of these by a ConfigError; an instance reads random views of its own space.
        reads_time: whether the features must depend on the time; False for an encoder that ignores it on purpose.
        seed: of weights and views.

    Raises:
        CheckError: the encoder breaks the contract. One sentence says what was got, what was expected, and the cure.
        ConfigError: the encoder rejects the views of `game` with its own message.
    """
    report = report_of("check_encoder", encoder, Encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if game is not None:
            views = _views_of(environment_of("check_encoder", game), seed)
            _Check(report, encoder, views, reads_time).all()
        elif isinstance(encoder, Encoder):
            views = _random_views(encoder.observation_space, encoder.layout, seed)
            _Check(report, encoder, views, reads_time).all()
        else:
            _check_spaces(report, encoder, reads_time, seed)


def _check_spaces(report: Report, encoder: EncoderFactory, reads_time: bool, seed: int) -> None:
    """Check a class on the views of the project's games and spaces, except those that it rejects."""
    refusals, count = [], 0
    for count, views in enumerate(_project_views(seed), 1):  # noqa: B007  the last one is their number
        try:
            check = _Check(report, encoder, views, reads_time)
        except ConfigError as error:
            refusals.append(str(error))
        else:
            check.all()
    got = f"a ConfigError for all views ({', '.join(dict.fromkeys(refusals))})"
    cure = "pass the game of this encoder"
    report.require(len(refusals) < count, "__init__", got, "at least some views that it reads", cure)


def _project_views(seed: int) -> Iterator[Views]:
    """Yield views of a grid, of bits, and of the spaces without a game."""
    for game in (StagHunt("2h1s_4x4", max_steps=_STEPS), MatrixGame("prisoners_dilemma", max_steps=_STEPS)):
        yield _views_of(as_env(game), seed)
    for space in _SPACES:
        yield _random_views(space, None, seed)


def _views_of(env: VectorEnv, seed: int) -> Views:
    """Return the views of all seats at the first steps of episodes with random actions."""
    walk, rules = Walk(env, _ROWS, seed), env.game
    board = rules.board(env.state) if rules is not None and rules.has_board else None
    views, times, sparse, distances = [], [], [], []
    for _ in range(min(_STEPS, env.max_steps)):
        view = walk.view
        views.append(view.observation.float().flatten(0, 1))
        times.append(view.time.repeat_interleave(env.num_players))
        if rules is not None and rules.sparse_views:
            sparse.append(rules.observe_sparse(env.state).flatten(0, 1))
            if board is not None:
                distances.append(rules.observe_sparse(env.state, board).flatten(0, 1))
        walk.step()
    none = math.prod(env.observation_space.shape or ())
    whole = (_padded(parts, none) for parts in (sparse, distances))
    return Views(env.observation_space, env.layout, torch.cat(views), torch.cat(times), *whole)


def _padded(parts: list[Tensor], none: int) -> Tensor | None:
    """Return sparse views of several steps in one tensor; None if there are none."""
    widest = max((part.shape[1] for part in parts), default=0)
    padded = [torch.nn.functional.pad(part, (0, widest - part.shape[1]), value=none) for part in parts]
    return torch.cat(padded) if padded else None


def _random_views(space: Space, layout: GridLayout | None, seed: int) -> Views:
    """Return random views of a space; on a grid each player stands on a cell."""
    random, shape, rows = seeded(seed), tuple(space.shape or ()), _ROWS * _STEPS
    if is_binary(space):
        views = torch.randint(2, (rows, *shape), generator=random).float()
        if layout is not None:
            views[:, : layout.num_players] = standing(layout, rows, random)
    else:
        low, high = (torch.as_tensor(bound.astype("float64")) for bound in (space.low, space.high))  # type: ignore[union-attr]
        within = low + (high - low) * torch.rand((rows, *shape), generator=random, dtype=torch.float64)
        anywhere = torch.randn((rows, *shape), generator=random, dtype=torch.float64).clamp(low, high)
        views = torch.where((high - low).isfinite(), within, anywhere)
        views = stored(views, space).float()
    return Views(space, layout, views, torch.rand(rows, generator=random))


class _Check:
    """Checks one encoder on views.

    Args:
        report: raises the failures.
        encoder: a factory, or an instance.
        views: the views to read.
        reads_time: whether the features must depend on the time.

    Raises:
        ConfigError: the encoder rejects these views.
    """

    def __init__(self, report: Report, encoder: EncoderFactory | Encoder, views: Views, reads_time: bool) -> None:
        self.report, self.views, self.reads_time = report, views, reads_time
        self.widths = []
        if isinstance(encoder, Encoder):
            self._fits(encoder)
            self.encoder, self.fresh, self.hidden = deepcopy(encoder), deepcopy(encoder), encoder.hidden
            return
        arguments = (views.space, views.layout)
        for width in (2 * HIDDEN, HIDDEN, HIDDEN):
            self.widths.append(made(report, encoder, Encoder, (*arguments, width), _TAKES))
        self.encoder, self.fresh, self.hidden = *self.widths[1:], HIDDEN

    def all(self) -> None:
        """Check everything."""
        self.attributes()
        self.features()
        self.forms()
        self.inputs()
        self.learning()
        self.states()

    def attributes(self) -> None:
        """Check the attributes, and the features for two widths."""
        report, encoder = self.report, self.encoder
        made_right = getattr(encoder, "observation_space", None) is not None
        cure = "call super().__init__(observation_space, layout, hidden) first"
        report.require(
            made_right, "__init__", "no attribute observation_space", "the attributes of the base class", cure
        )
        for member in ("sparse", "distances"):
            value, cure = getattr(encoder, member), f"set {member} to one of them"
            report.require(isinstance(value, bool), member, repr(value), "True or False", cure)
        bits = is_binary(self.views.space) or not encoder.sparse
        cure = "set self.sparse = is_binary(observation_space)"
        report.require(bits, "sparse", f"True for {self.views.space}", "True only for bits", cure)
        for wide in self.widths[:1]:
            found = report.call("forward", wide, self.views.observation, self.views.time, expected=_READS)
            self._shape(found, len(self.views.time), 2 * HIDDEN)

    def features(self) -> None:
        """Check shape and values, that rows are independent, and batches of one row and of none."""
        report, views = self.report, self.views
        with torch.inference_mode():
            found = pure(report, "forward", self.encoder, views.observation, views.time, expected=_READS)
            self._shape(found, len(views.time), self.hidden)
            check_finite(report, "forward", found, "a feature")
            check_rows(report, "forward", self.encoder, (views.observation, views.time), found)
            for rows in (1, 0):
                expected = f"a batch of {'one row' if rows else 'no rows, as without a learner'}"
                cure = "" if rows else "use `flatten(1)` instead of `reshape(len(x), -1)`, and no mean over rows"
                some = (views.observation[:rows], views.time[:rows])
                part = report.call("forward", self.encoder, *some, expected=expected, cure=cure)
                self._shape(part, rows, self.hidden)
        check_names(report, self.encoder, self.fresh.state_dict())

    def forms(self) -> None:
        """Check that views in other forms give the same features: as stored, as prepared, and sparse."""
        report, encoder, views = self.report, self.encoder, self.views
        dense, time = views.observation, views.time
        with torch.inference_mode():
            found = encoder(dense, time)
            raw = stored(dense, views.space)
            expected = f"views of any dtype, here {describe(raw)}"
            cure = "convert the views, by `observation.float()`"
            again = report.call("forward", encoder, raw, time, expected=expected, cure=cure)
            self._agree(again, found, f"for views of {raw.dtype}", cure)
            read = pure(report, "prepare", encoder.prepare, dense, expected="views [M, *shape]")
            leads = isinstance(read, Tensor) and read.dim() > 0 and len(read) == len(dense)
            expected = f"a tensor with {len(dense)} leading rows"
            report.require(leads, "prepare", describe(read), expected, "keep one row for each view")
            order = torch.arange(len(dense)).flip(0)[:-1]
            again = report.call("forward", encoder, read[order], time[order], expected="rows of the result of prepare")
            self._agree(again, found[order], "for what prepare returned", "let both forms mean the same")
            sparse = self._sparse() if encoder.sparse else None
            if sparse is not None:
                expected = "sparse views, int32 [M, n]"
                cure = "read omg_lightning.encoders.base.is_sparse(observation) as indices, or set sparse to False"
                again = report.call("forward", encoder, sparse, time, expected=expected, cure=cure)
                self._agree(again, found, "for sparse views", cure)

    def inputs(self) -> None:
        """Check that the features depend on the view, and on the time unless `reads_time` is False."""
        report, views = self.report, self.views
        with torch.inference_mode():
            alike = torch.full_like(views.time, 0.5)
            found = self.encoder(views.observation, alike)
            reads = (found != found[:1]).any() or (views.observation == views.observation[:1]).all()
            cure = "let the features depend on observation"
            report.require(reads, "forward", "the same features for all views", "features of the view", cure)
            if self.reads_time:
                later = self.encoder(views.observation, alike + 0.5)
                got, cure = "the same features at all times", "let them depend on time, or pass reads_time=False"
                report.require((found != later).any(), "forward", got, "features of the time, too", cure)

    def learning(self) -> None:
        """Check that gradients reach every parameter, and that features and checkpoints follow the weights."""
        report, encoder, views = self.report, self.encoder, self.views

        def features(part: Encoder) -> Tensor:
            with torch.no_grad():
                return part(views.observation, views.time)

        before = features(encoder)
        found = report.call("forward", encoder, encoder.prepare(views.observation), views.time, expected=_READS)
        weight = torch.randn(found.shape, generator=seeded(0))
        check_gradients(report, encoder, (found * weight).sum(), "the features")
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        moved = (features(encoder) != before).any() or not any(True for _ in encoder.parameters())
        cure = "compute values that depend on weights in each call, without a cache"
        report.require(moved, "forward", "the same features after a training step", "those of the new weights", cure)
        check_state(report, encoder, self.fresh, features, "forward")

    def states(self) -> None:
        """Check the encoder of whole states, if it is another one."""
        report, kind, views = self.report, self.encoder.state_encoder, self.views
        if kind is None:
            return
        fits = isinstance(kind, type) and issubclass(kind, Encoder)
        cure = "set it to a subclass of Encoder, or to None for the same class"
        report.require(fits, "state_encoder", repr(kind), "a class of encoders", cure)
        expected, cure = "one that reads the same views", "choose another class"
        arguments = (views.space, views.layout, HIDDEN)
        made_of = report.call("state_encoder", kind, *arguments, expected=expected, cure=cure)
        found = report.call("state_encoder", made_of, views.observation, views.time, expected=expected, cure=cure)
        report.tensor("state_encoder", found, (len(views.time), HIDDEN), "[M, hidden]", (torch.float32,))

    def _fits(self, encoder: Encoder) -> None:
        """Raise a CheckError if an instance is for other views."""
        own = getattr(encoder, "observation_space", None)
        expected, cure = f"the game's {self.views.space}", "make it with GameSpec.of(env).observation_space"
        same = own is None or own.shape == self.views.space.shape
        self.report.require(same, "observation_space", own, expected, cure)

    def _shape(self, found: object, rows: int, hidden: int) -> None:
        self.report.tensor("forward", found, (rows, hidden), "[M, hidden]", (torch.float32,))

    def _agree(self, found: object, wanted: Tensor, when: str, cure: str) -> None:
        same = difference(found, wanted, exact=False) is None
        self.report.require(same, "forward", f"other features {when}", "those of the views as float", cure)

    def _sparse(self) -> Tensor | None:
        """Return the views in sparse form: the game's own, if it has them."""
        known = self.views.distances if self.encoder.distances else self.views.sparse
        if known is not None or self.encoder.distances:
            return known
        flat = self.views.observation.flatten(1)
        row, index = flat.nonzero(as_tuple=True)
        return in_rows(index.int(), row, len(flat), flat.shape[1])
