"""Find the fewest steps in which a player can end episodes of Level-Based Foraging with a script.

Run:  python benchmarks/foraging.py [--preset 8x8-2p-3f] [--max-food-level 2] [--layouts 200] [--out FILE]
This is a bound for learners: the player knows the script, its order and its levels, and how it will break each of its
ties, and looks for nothing but the end of the episode. Breadth-first search over all its actions, for random layouts;
states that are alike are merged. Scripts must decide by what they see alone, as these do: lexicographic, column_major,
their reverses, greedy. Beside it stand the steps of scripts in both seats. Prints a table and then one JSON line,
which `--out` writes to a file as well.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch
from torch import Tensor

from omg_lightning.actors import arrange, make_player
from omg_lightning.envs import RulesEnv
from omg_lightning.files import compact, replace_text
from omg_lightning.games import LevelBasedForaging
from omg_lightning.rollout import play
from omg_lightning.types import take


def fewest_steps(game: LevelBasedForaging, state: Any, script: str, generator: torch.Generator) -> int:
    """Return how soon seat 0 can end an episode that starts in `state` `[1]` beside the script in seat 1."""
    player, front = make_player(script, game), state
    for step in range(1, game.max_steps + 1):
        rows = torch.arange(len(front.time)).repeat_interleave(game.num_actions)
        player.reset(len(front.time), 1, game, generator)
        theirs = player.act(game.observe(front)[:, 1], game.legal(front)[:, 1])
        ours = torch.arange(game.num_actions).repeat(len(front.time))
        after, _ = game.step(take(front, rows), torch.stack([ours, theirs[rows]], 1))
        if bool((after.food_levels == 0).all(1).any()):
            return step
        front = take(after, first_of_each(game, after))
    return game.max_steps


def first_of_each(game: LevelBasedForaging, state: Any) -> Tensor:
    """Return a row for each different state, int64."""
    key = state.players[:, 0] * game.height * game.width + state.players[:, 1]
    for food in state.food_levels.t():
        key = 2 * key + (food > 0)
    _, number = torch.unique(key, return_inverse=True)
    first = torch.full((int(number.max()) + 1,), len(key))
    return first.scatter_reduce(0, number, torch.arange(len(key)), "amin")


def measure(game: LevelBasedForaging, layouts: int, scripts: list[str]) -> list[dict[str, Any]]:
    """Return a row of results for each script."""
    generator, rows = torch.Generator().manual_seed(0), []
    state, env = game.reset(layouts, generator), RulesEnv(game)
    for script in scripts:
        found = [fewest_steps(game, take(state, torch.tensor([row])), script, generator) for row in range(layouts)]
        steps = torch.tensor(found, dtype=torch.float64)
        both = play(env, arrange([[script, script]], layouts, env, torch.device("cpu")), {}, generator).episodes
        row = {"script": script, "fewest": float(steps.mean()), "error": float(steps.std() / layouts**0.5)}
        rows.append(row | {"two_scripts": float(both.active.any(-1).sum(0).double().mean())})
        print(f"{script:>24}{row['fewest']:9.2f} +- {row['error']:.2f}{rows[-1]['two_scripts']:13.2f}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="8x8-2p-3f")
    parser.add_argument("--max-food-level", type=int)
    parser.add_argument("--layouts", type=int, default=200)
    parser.add_argument("--scripts", nargs="+", default=["lexicographic", "column_major"])
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    args = parser.parse_args()
    game = LevelBasedForaging(args.preset, max_food_level=args.max_food_level)
    print(f"{'beside':>24}{'fewest steps':>17}{'two of them':>13}")
    with torch.inference_mode():
        rows = measure(game, args.layouts, args.scripts)
    found = {"benchmark": "foraging", "game": repr(game), "layouts": args.layouts, "rows": rows}
    print(json.dumps(found))
    if args.out is not None:
        replace_text(args.out, compact(found))


if __name__ == "__main__":
    main()
