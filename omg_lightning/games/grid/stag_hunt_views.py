"""A hunter's observation: planes, or the indices of their nonzero entries, with walking distances if requested."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from omg_lightning.games.grid.paths import Facts, all_walks, facts_told
from omg_lightning.types import ego_order

HUNT_STAG, HUNT_HARE = 5, 6  # the actions after those of `layout`


class StagHuntState(NamedTuple):
    """The state of the game, 16 + 9 P + h w bytes per row; a search stores one per node."""

    time: Tensor  # int64 [B] steps played
    closes: Tensor  # int64 [B] the latest end of the episode
    hunters: Tensor  # int64 [B, P] cell index; the last one if the hunter has left
    present: Tensor  # bool [B, P] whether the hunter has not left with a capture
    cells: Tensor  # uint8 [B, h * w] bit a is set: action a is legal for a hunter on this cell; 0: a block


class Board(NamedTuple):
    """The constants of an episode for a search: positions of objects and walking distances."""

    prey: Tensor  # int64 [B, n] cells of the stags and of the hares, in this order; arbitrary if gone
    blocks: Tensor  # int32 [B, m] indices of the blocks in a view's flattened planes, or the one for none
    walks: Tensor  # int16 [B, h * w, h * w] see `all_walks`


class _Tables(NamedTuple):
    """Constants, on one device."""

    seats: Tensor  # int64 [P, P] row i is the ego order of seat i
    places: Tensor  # int32 [P + 3, h * w] indices in a view's flattened planes
    planes: Tensor  # int32 [256] for each kind of cell, the index of its plane's first cell; free: past the last plane
    hunts: Tensor  # uint8 [n] for each prey, stags first, the bit of the action that captures it
    prey_planes: Tensor  # int64 [n] index of its plane's first cell
    kinds: Tensor  # int64 [n] its kind: 0 a stag, 1 a hare


class Views:
    """Every seat's own view of a state of Stag-Hunt.

    Args:
        shape: `(P + 3, h, w)`: the players, self first, blocks, stags, hares.
        num_stags: stags on the grid.
        num_hares: hares on the grid.
    """

    def __init__(self, shape: tuple[int, int, int], num_stags: int, num_hares: int) -> None:
        self.shape, self.num_stags, self.num_hares = shape, num_stags, num_hares
        self.players = shape[0] - 3
        self._facts = Facts.of(shape, self.players, walls=self.players)
        self._tables: dict[torch.device, _Tables] = {}

    def planes(self, state: StagHuntState) -> Tensor:
        """Return the planes, float32 `[B, P, P + 3, h, w]` of 0 and 1."""
        hunters, shown = self._around(state)
        batch, players = state.hunters.shape
        planes = state.cells.new_zeros(batch, players, players + 3, state.cells.shape[1], dtype=torch.float32)
        planes[:, :, :players].scatter_(3, hunters[..., None], shown[..., None].float())
        parts = (state.cells == 0, state.cells >> HUNT_STAG & 1, state.cells >> HUNT_HARE & 1)
        planes[:, :, players:] = torch.stack(parts, 1).float()[:, None]  # [B, 1, 3, h * w]
        return planes.view(batch, players, *self.shape)

    def places(self, state: StagHuntState, board: Board | None) -> Tensor:
        """Return indices in flattened planes, int32 `[B, P, n]`; `(P + 3) * h * w` for none. A board adds `Facts`."""
        tables, players = self._constants(state), self.players
        hunters, shown = self._around(state)
        none = tables.places.numel()
        who = torch.where(shown, hunters + tables.places[:players, 0], none).int()
        if board is None:
            kinds = tables.planes.index_select(0, state.cells.flatten().int()).view_as(state.cells)
            objects = (kinds + tables.places[0]).clamp_max_(none)  # [B, h * w]
            return torch.cat([who, objects[:, None].expand(-1, players, -1)], -1)
        there = (state.cells.gather(1, board.prey) & tables.hunts) != 0  # [B, n]
        prey = torch.where(there, board.prey + tables.prey_planes, none).int()
        objects = torch.cat([prey, board.blocks], 1)[:, None].expand(-1, players, -1)
        found = facts_told(self._facts, board.walks, hunters, shown, board.prey, tables.kinds, there)
        return torch.cat([who, objects, found], -1)

    def board(self, state: StagHuntState) -> Board:
        """See `StagHunt.board`."""
        tables, blocked = self._constants(state), state.cells == 0
        prey = [
            (state.cells >> hunt & 1).topk(count, dim=1).indices
            for hunt, count in ((HUNT_STAG, self.num_stags), (HUNT_HARE, self.num_hares))
        ]
        most = int(blocked.sum(1).amax())
        cells = blocked.to(torch.uint8).topk(most, dim=1).indices
        places = torch.where(blocked.gather(1, cells), cells + tables.places[-3, 0], tables.places.numel())
        walks = all_walks(~blocked.view(-1, *self.shape[1:]))
        return Board(torch.cat(prey, 1), places.int(), walks)

    def _around(self, state: StagHuntState) -> tuple[Tensor, Tensor]:
        """Return the hunters' cells, int64, and presence, bool: `[B, P, P]`, in the ego order of each seat."""
        seats = self._constants(state).seats.flatten().expand(len(state.hunters), -1)
        shape = (-1, self.players, self.players)
        # `gather` takes half as long as indexing
        return state.hunters.gather(1, seats).view(shape), state.present.gather(1, seats).view(shape)

    def _constants(self, state: StagHuntState) -> _Tables:
        """Return the tables on the state's device; they are cached."""
        device = state.cells.device
        if device not in self._tables:
            seats = torch.arange(self.players, device=device)
            planes, height, width = self.shape
            places = torch.arange(math.prod(self.shape), dtype=torch.int32, device=device).view(planes, height * width)
            of_cell = torch.full((256,), places.numel(), dtype=torch.int32, device=device)
            of_cell[0] = places[-3, 0]
            of_cell[1 << HUNT_STAG : 1 << HUNT_HARE], of_cell[1 << HUNT_HARE :] = places[-2, 0], places[-1, 0]
            prey = torch.tensor([0] * self.num_stags + [1] * self.num_hares, device=device, dtype=torch.int64)
            self._tables[device] = _Tables(
                seats=ego_order(seats.expand(self.players, -1), seats),
                places=places,
                planes=of_cell,
                hunts=1 << (HUNT_STAG + prey).to(torch.uint8),
                prey_planes=places[-2:, 0].long()[prey],
                kinds=prey,
            )
        return self._tables[device]
