"""Observations of a grid centred on the player."""

import torch
import torch.nn.functional as F
from torch import Tensor


def own_frame(observation: Tensor, num_players: int, radius: int = 1, beside: float = 0.25) -> Tensor:
    """Return what lies around the viewer: its view cropped and centred on its own cell.

    Args:
        observation: float `[M, C, h, w]` views, ego first; plane 0 is the viewer.
        num_players: P, the first planes, which are left out: a goal is what lies there, not which players came.
        radius: how many cells to look in each direction.
        beside: weight of the cells beside the viewer's own; its own cell has weight 1.

    Returns:
        float `[M, (C - P) * (2 * radius + 1) ** 2]`; all zero for a viewer that is not on the board.
    """
    size = 2 * radius + 1
    here = observation[:, :1].flatten(2)  # [M, 1, h*w]
    patches = F.unfold(observation[:, num_players:], size, padding=radius)  # [M, (C-P)*size*size, h*w]
    weight = torch.full((size, size), beside, device=observation.device)
    weight[radius, radius] = 1.0
    return (patches * here).sum(-1) * weight.flatten().repeat(observation.shape[1] - num_players)
