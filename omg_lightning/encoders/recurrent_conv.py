"""The encoder of grids that learns ways around walls from planes alone."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omg_lightning.encoders.base import are_bits, version_of
from omg_lightning.encoders.centred import Centred
from omg_lightning.games.grid.layout import GridLayout
from omg_lightning.spaces import Space
from omg_lightning.types import ConfigError

MOST_BOARDS = 1 << 13  # remembered between calls
BATCH = 16  # boards that are convolved at once, where they are remembered


class _Boards(NamedTuple):
    """Boards that were convolved with the current weights; S rows of `table` for each, in the order of `number`."""

    version: object  # of the weights
    known: Tensor  # int64 [N] keys, sorted
    number: Tensor  # int64 [N] which board has each key; board 0 is empty and has none
    table: Tensor  # float [at least N * S, 9 C]


class RecurrentConv(Centred):
    """`Centred`, with features of the players' cells from a recurrent convolution over all planes but the players'.

    It is given no distances or shortest paths, and not which plane shows walls. One 3x3 convolution `W` is applied
    `steps` times, so that information spreads around walls. It reads the planes again at each step ("recall",
    Bansal et al. 2022, arXiv 2202.05826; a convolution as a planner: Tamar et al. 2016, arXiv 1602.02867):

        h_0 = relu(x),  h_k = relu(W * h_{k-1} + x),  where x = U * planes + b.

    The features of the 3x3 cells around the viewer, and the sum of those of the other players' cells, are further
    inputs of the dense layer. Players move and the rest of a board hardly changes, so each board is convolved once for
    all views of it. A search remembers boards between its calls.

    Args:
        observation_space: see `Encoder`.
        layout: see `Encoder`; needed.
        hidden: see `Encoder`.
        channels: C, features of a cell.
        steps: number of convolutions: the largest distance over which information spreads, diagonals included.

    Raises:
        ConfigError: the game is not on a grid, or there is no channel or no step.
    """

    keys: Tensor

    def __init__(
        self, observation_space: Space, layout: GridLayout | None, hidden: int, channels: int = 16, steps: int = 8
    ) -> None:
        super().__init__(observation_space, layout, hidden)
        assert layout is not None  # or `Centred` has refused it
        for name, value in (("channels", channels), ("steps", steps)):
            if value < 1:
                raise ConfigError(f"model.encoder.{name} is {value}: it must be at least 1")
        self.channels, self.steps, self.cells = channels, steps, layout.cells
        self.players = layout.num_players * layout.cells  # the first indices are those of players
        self.enter = nn.Conv2d(layout.features + 1, channels, 3, padding=1)  # a plane of ones shows the edge
        self.spread = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.read = nn.Linear(10 * channels, hidden, bias=False)
        fixed = torch.Generator().manual_seed(0)  # the key of a board is a sum of random 62-bit numbers, one per index
        keys = torch.randint(2**62, (math.prod(self.shape) + 1,), generator=fixed)
        keys[: self.players] = keys[-1] = 0
        self.register_buffer("keys", keys, persistent=False)
        self._boards: _Boards | None = None

    def forward(self, observation: Tensor, time: Tensor) -> Tensor:
        """Return features, float `[M, hidden]`, of views in any form; see `Encoder.forward`."""
        indices, weights = self.entries(observation)
        return self.summed(indices, weights, time).add_(self.read(self.at_players(indices, weights))).relu_()

    def at_players(self, indices: Tensor, weights: Tensor | None) -> Tensor:
        """Return the features of the convolved board around the viewer and at the other players, `[M, 10 C]`.

        Args:
            indices: `[M, n]` of nonzero entries of the views.
            weights: `[M, n]` their values; None if all are 1.
        """
        table, board = self._tabled(indices, weights)
        start = (board * self.cells)[:, None]
        is_player = indices < self.players
        columns = is_player.any(0).nonzero()[:, 0]  # few of n
        players, is_player = indices.index_select(1, columns), is_player.index_select(1, columns)
        values = None if weights is None else weights.index_select(1, columns)
        rows, own = players % self.cells + start, players < self.cells
        centres = 9 * torch.where(is_player & ~own, rows, 0) + 4
        beside = _summed(table.view(-1, self.channels), centres, values)
        mine = own.any(0).nonzero()[:, 0]  # one of these, as a rule
        rows = torch.where(own, rows, 0).index_select(1, mine)
        around = _summed(table, rows, None if values is None else values.index_select(1, mine))
        return torch.cat([around, beside], 1)

    def convolved(self, planes: Tensor) -> Tensor:
        """Return the features of all cells, `[N, C, h, w]`, from all planes but the players', `[N, F, h, w]`."""
        x = self.enter(torch.cat([planes, torch.ones_like(planes[:, :1])], 1))
        h = x.relu()
        for _ in range(self.steps):
            h = (self.spread(h) + x).relu_()
        return h

    def _tabled(self, indices: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features around the cells of all boards, and the number of each view's board, int64 `[M]`.

        The table `[N * S, 9 C]` has S rows for each board, as of `_rows`. Those of board 0 are zeros.
        """
        if weights is not None and not are_bits(weights):
            cells = self._rows(indices, weights)  # keys are for bits only: here each view has a board of its own
            return torch.cat([cells.new_zeros(self.cells, cells.shape[1]), cells]), _numbers(indices) + 1
        key = self.keys.index_select(0, indices.flatten()).view_as(indices).sum(1)  # modulo 2^64
        version = version_of(self.enter.weight, self.enter.bias, self.spread.weight)  # type: ignore[arg-type]
        if version is not None:
            return self._remembered(version, key, indices)
        _, first, board = _distinct(key)
        cells = self._rows(indices[first])
        return torch.cat([cells.new_zeros(self.cells, cells.shape[1]), cells]), board + 1

    def _remembered(self, version: object, key: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Do as `_tabled` for boards of these keys, int64 `[M]`; convolve only those not seen since the last update."""
        boards = self._boards
        if boards is None or boards.version != version or len(boards.known) > MOST_BOARDS:
            none = key.new_full((1,), torch.iinfo(key.dtype).min)
            zeros = self.enter.weight.new_zeros(BATCH * self.cells, 9 * self.channels)
            boards = self._boards = _Boards(version, none, torch.zeros_like(none), zeros)
        place = torch.searchsorted(boards.known, key).clamp_(max=len(boards.known) - 1)
        missing = (boards.known[place] != key).nonzero()[:, 0]
        if len(missing):
            new, first, _ = _distinct(key[missing])
            boards = self._boards = self._with(boards, new, indices[missing[first]])
            place = torch.searchsorted(boards.known, key)
        return boards.table, boards.number[place]

    def _with(self, boards: _Boards, new: Tensor, indices: Tensor) -> _Boards:
        """Return the boards with those of keys `[N]` and indices `[N, n]` added."""
        count, total, table = len(boards.known), len(boards.known) + len(new), boards.table
        if total * self.cells > len(table):  # double it, so that a board is copied a few times at most
            table = torch.cat([table, table.new_empty(max(len(table), (total - count) * self.cells), table.shape[1])])
        # The last bits of a convolution depend on the size of its batch. Boards are convolved in batches of one size,
        # so that a resumed run, which remembers no boards, repeats an uninterrupted one bit by bit.
        for begin in range(0, len(new), BATCH):
            rows = torch.arange(begin, begin + BATCH, device=new.device).clamp_(max=len(new) - 1)
            size = min(BATCH, len(new) - begin) * self.cells
            start = (count + begin) * self.cells
            table[start : start + size] = self._rows(indices[rows])[:size]
        known, order = torch.cat([boards.known, new]).sort()
        number = torch.cat([boards.number, count + _numbers(new)])[order]
        return _Boards(boards.version, known, number, table)

    def _rows(self, indices: Tensor, weights: Tensor | None = None) -> Tensor:
        """Convolve the boards of views, indices `[N, n]`: the features of the 3x3 cells around each, `[N * S, 9 C]`."""
        ones = indices.new_ones(()).to(self.enter.weight).expand(indices.shape) if weights is None else weights
        flat = ones.new_zeros(len(indices), math.prod(self.shape) + 1).scatter_(1, indices.long(), ones)
        planes = flat[:, self.players : -1].unflatten(1, (-1, *self.shape[1:]))
        around = F.unfold(self.convolved(planes), 3, padding=1)  # [N, C * 9, S]
        return around.unflatten(1, (self.channels, 9)).permute(0, 3, 2, 1).reshape(-1, 9 * self.channels)


def _summed(table: Tensor, rows: Tensor, values: Tensor | None) -> Tensor:
    """Return the sums of the rows `[M, k]` of a table, times `values` `[M, k]` if given: `[M, size]`."""
    found = table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])
    return (found if values is None else found * values[..., None]).sum(1)


def _numbers(x: Tensor) -> Tensor:
    """Return 0, 1, ... for the rows of `x`."""
    return torch.arange(len(x), device=x.device)


def _distinct(key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the different keys of `[M]`, a row that has each, and which of them each row has."""
    found, which = torch.unique(key, return_inverse=True)
    return found, torch.empty_like(found).scatter_(0, which, _numbers(key)), which
