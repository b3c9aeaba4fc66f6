"""Quality of codes: recall of the decoder, and the number of active dimensions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from omg_lightning.encoders.decoders import PlaneLogits


def probabilities(logits: PlaneLogits) -> tuple[Tensor, Tensor]:
    """Return what a decoder believes, as probabilities.

    Args:
        logits: of M codes.

    Returns:
        `[M, C, h, w]` of a 1 on each cell of each plane, and `[M, P]` of each player being absent. A player's cells
        and its absence sum to 1; the cells of the other planes are independent of each other.
    """
    players, (height, width) = logits.players.softmax(-1), logits.objects.shape[-2:]
    cells = players[..., :-1].unflatten(-1, (height, width))  # [M, P, h, w]
    return torch.cat([cells, logits.objects.sigmoid()], 1), players[..., -1]


def decided(logits: PlaneLogits) -> Tensor:
    """Return the likeliest picture: each player at its likeliest place, objects where p > 0.5.

    Args:
        logits: of M codes.

    Returns:
        bool `[M, C, h, w]`; a player that is likeliest absent has no 1.
    """
    height, width = logits.objects.shape[-2:]
    best = logits.players.argmax(-1, keepdim=True)  # [M, P, 1]
    cells = torch.zeros_like(logits.players, dtype=torch.bool).scatter(-1, best, True)[..., :-1]
    return torch.cat([cells.unflatten(-1, (height, width)), logits.objects > 0], 1)


def plane_recall(logits: PlaneLogits, observation: Tensor, plane_names: Sequence[str]) -> dict[str, Tensor]:
    """Return the share of the true 1s on which the likeliest picture has a 1, for each kind of plane.

    Recall alone rewards a decoder that paints everything: read it beside `plane_precision`.

    Args:
        logits: of the M decoded views.
        observation: `[M, C, h, w]` the true views, 0 or 1.
        plane_names: C names. All of `other_1`, `other_2`, ... count as one kind, `other`.

    Returns:
        Kind to share; kinds without a true 1 in any view are left out.
    """
    truth = observation > 0
    return _shares(decided(logits) & truth, truth, plane_names)


def plane_precision(logits: PlaneLogits, observation: Tensor, plane_names: Sequence[str]) -> dict[str, Tensor]:
    """Return the share of the 1s in the likeliest picture that are true; arguments and result as in `plane_recall`."""
    picture = decided(logits)
    return _shares(picture & (observation > 0), picture, plane_names)


def hit_ratio(pictures: Tensor, views: Tensor, who: Tensor) -> Tensor:
    """Return the subgoal hit ratio (OMG, NeurIPS 2024): how much of a seat's future its inferred subgoals name.

    A hit is a picture, decoded from the subgoal inferred at step t, that equals in every cell of every plane what the
    seat sees at a later step of the same episode. Equal pictures count once. The ratio is hits over the seat's steps.

    Args:
        pictures: bool `[T, B, P, C, h, w]` decoded subgoals, see `decided`.
        views: bool `[T, B, P, C, h, w]` what each seat saw.
        who: bool `[T, B, P]` the steps of the seats that count; all of a seat's steps or none.

    Returns:
        Scalar: the mean over seats and episodes that count; 0 where there are none.
    """
    cells = pictures[0, 0, 0].numel()
    secret = torch.Generator().manual_seed(0)  # pictures are told apart by a random 62-bit number for each set of 1s
    keys = torch.randint(2**62, (cells,), generator=secret).to(pictures.device)
    named, came = (torch.where(x.flatten(3), keys, 0).sum(-1) for x in (pictures, views))  # [T, B, P], modulo 2^64
    steps = torch.arange(len(who), device=who.device)
    later = steps[:, None] < steps  # [T, T]
    both = who[:, None] & who[None] & later[..., None, None]  # [T, T, B, P] the second step after the first
    hit = ((named[:, None] == came[None]) & both).any(1)  # [T, B, P]
    again = ((named[:, None] == named[None]) & both & hit[:, None]).any(0)  # named before, and a hit then
    length = who.sum(0)
    ratio = (hit & ~again).sum(0) / length.clamp(min=1)
    return ratio.sum() / (length > 0).sum().clamp(min=1)


def active_units(mean: Tensor, threshold: float = 0.01) -> Tensor:
    """Count the latent dimensions in use: the variance of the posterior mean over samples is above `threshold`.

    Burda, Grosse and Salakhutdinov 2016 (Importance Weighted Autoencoders, section 5.2); the variance is over the n
    samples, not n - 1, so that one sample has none.

    Args:
        mean: float `[n, D]` posterior means.
        threshold: below it a dimension counts as collapsed onto the prior.

    Returns:
        int64 scalar, 0 to D.
    """
    return (mean.var(0, correction=0) > threshold).sum()


def _shares(hits: Tensor, of: Tensor, plane_names: Sequence[str]) -> dict[str, Tensor]:
    """Divide counts of `hits` by counts of `of`, bool `[M, C, h, w]`, by kind of plane; empty kinds are left out."""
    kinds = ["other" if name.startswith("other_") else name for name in plane_names]
    shares = {}
    for kind in dict.fromkeys(kinds):
        planes = [plane for plane, name in enumerate(kinds) if name == kind]
        total = of[:, planes].sum()
        if total:
            shares[kind] = hits[:, planes].sum() / total
    return shares
