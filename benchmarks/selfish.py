"""Return of hunters that all go for the stag, without giving way: a reference for self-play in Stag-Hunt.

    python benchmarks/selfish.py [--presets 4h1s_4x4 4h1s_6x6 4h1s] [--starts 20000] [--out docs/results/selfish.json]

All hunters walk to the stag by a shortest path and hunt once another hunter is there. So the stag falls to the hunters
that arrive second or before, and all that arrive at the same time; later ones take a hare each. A third hunter that
arrives in time gains by joining (10 / 3 against 1) but costs the team a hare. So this is no bound on what teams can
have, which is two with the stag and two with hares (12), but on the return of hunters that never give way.
"""

import argparse
from pathlib import Path

import torch

from omg_lightning.files import compact, replace_text
from omg_lightning.games import StagHunt
from omg_lightning.games.grid.paths import distance_to
from omg_lightning.metrics.intervals import of_episodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["4h1s_4x4", "4h1s_6x6", "4h1s"], help="presets with one stag")
    parser.add_argument("--starts", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args, rows = parser.parse_args(), []
    print("| preset | three share the stag | all four | team return | 95% interval |\n|---|---|---|---|---|")
    for preset in args.presets:
        game = StagHunt.preset(preset)
        state = game.reset(args.starts, torch.Generator().manual_seed(0))
        view = dict(zip(game.layout.plane_names, game.observe(state)[:, 0].unbind(1), strict=True))
        distance = distance_to(view["stags"] > 0, view["blocks"] == 0).flatten(1)
        arrival = distance.gather(1, state.hunters).sort(1).values  # [B, P]
        sharing = (arrival <= arrival[:, 1:2]).sum(1)
        team = game.stag_reward + (game.num_players - sharing) * game.hare_reward
        low, high = of_episodes(team.numpy(), game.team_bounds)
        three, four = (float((sharing == count).float().mean()) for count in (3, 4))
        print(f"| {preset} | {three:.3f} | {four:.3f} | {team.mean():.2f} | {low:.2f} to {high:.2f} |")
        row = {"mean": float(team.mean()), "low": float(low), "high": float(high)}
        rows.append({"preset": preset, "starts": args.starts, "three": three, "four": four} | row)
    if args.out is not None:
        replace_text(args.out, compact({"rows": rows}))


if __name__ == "__main__":
    main()
