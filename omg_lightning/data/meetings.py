"""The learner's partner in each episode of each relationship, in the protocols of `test`."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from omg_lightning.actors import has_networks
from omg_lightning.data.settings import AdaptationConfig
from omg_lightning.games.switcher import handover
from omg_lightning.types import ConfigError

EPISODES = (2, 5, 10, 20)  # numbers of episodes between random changes of the partner


def meetings(config: AdaptationConfig, seen: int, unseen: int, random: torch.Generator) -> Tensor:
    """Return the kind of partner, int64 `[B, E]`, in episode e of each relationship; the last one then stays.

    There are `config.relationships` for each kind. Without a ratio each kind is the first partner in equally many; with
    one, the first partners of the two groups, seen and unseen kinds, are in that ratio, as exactly as possible, and the
    kinds of a group take turns. After a change the group is drawn by the ratio, then a kind other than the last one,
    uniformly.

    Args:
        config: the protocol.
        seen: number of kinds that training may have met; they have the first indices.
        unseen: number of other kinds.
        random: on the CPU; the only source of randomness.
    """
    count = config.relationships * (seen + unseen)
    group = torch.zeros(count, dtype=torch.int64)  # group of each relationship: 0 seen, 1 unseen
    sizes, weights = torch.tensor([seen + unseen]), torch.ones(1)
    if config.ratio is not None:
        sizes, weights = torch.tensor([seen, unseen]), torch.tensor(config.shares).float()
        group = ((torch.arange(count) + 0.5) / count > weights[0] / weights.sum()).long()
    start = torch.cat([torch.zeros(1, dtype=torch.int64), sizes[:-1].cumsum(0)])  # the first kind of each group
    within = torch.cat([torch.arange(int((group == k).sum())) for k in range(len(sizes))])
    kind = start[group] + within % sizes[group]
    if config.change_episodes is None:
        return kind[:, None]
    least = 0
    met = torch.zeros(count, dtype=torch.int64)  # number of episodes so far
    table = kind[:, None].repeat(1, config.steps)  # an episode takes at least one step
    place = torch.arange(config.steps)
    while least < config.steps:
        table = torch.where(place >= met[:, None], kind[:, None], table)
        met = met + _episodes(config, count, random)
        group = torch.multinomial(weights, count, replacement=True, generator=random)
        size, last = sizes[group], kind - start[group]
        among = (last >= 0) & (last < size) & (size > 1)  # the last kind is in this group, and not its only one
        drawn = (torch.rand(count, generator=random) * (size - among.long())).long()
        kind = start[group] + drawn + (among & (drawn >= last)).long()
        least = int(met.min())
    return table


def _episodes(config: AdaptationConfig, count: int, random: torch.Generator) -> Tensor:
    """Return the number of episodes until the partner changes, for each relationship: int64 `[count]`."""
    if config.change_episodes == "random":
        return torch.tensor(EPISODES)[torch.randint(len(EPISODES), (count,), generator=random)]
    assert config.change_episodes is not None
    return torch.full((count,), int(config.change_episodes))


def kinds_met(
    config: AdaptationConfig, partners: Sequence[str], known: Mapping[str, Sequence[Sequence[str]]]
) -> list[str]:
    """Return the names of all kinds of partners in `test`: `partners` first, then the unseen ones.

    Args:
        config: the protocol.
        partners: `data.partners`.
        known: line-ups that must not have an unseen kind, by the setting that names them.

    Raises:
        ConfigError: such a line-up has an unseen kind, or kinds cannot change within an episode.
    """
    unseen, latest = list(dict.fromkeys(config.unseen)), config.change_within
    for where, lineups in known.items():
        if both := [name for name in unseen if any(name in lineup for lineup in lineups)]:
            raise ConfigError(
                f"data.adaptation.unseen names {both[0]}, and so does {where}: remove it from one of them"
            )
    kinds = [*partners, *unseen]
    if latest is None:
        return kinds
    learned = [kind for kind in kinds if has_networks(kind) or ":" in kind]
    if learned or len(kinds) < 2:
        got = f"{learned[0]} is one of the partners" if learned else f"{kinds[0]} is the only partner"
        raise ConfigError(
            f"data.adaptation.change_within is {latest}, but {got}: give two or more players without networks and "
            "without a colon in their names"
        )
    return [handover(latest, kind, [each for each in kinds if each != kind]) for kind in kinds]
