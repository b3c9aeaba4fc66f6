"""Measure how close agents are to the exact best response to a fixed strategy, in matrix games of two players.

    python -m omg_lightning fit --config configs/matrix.yaml --data.seats '[learner, tit_for_tat]' \
        --trainer.default_root_dir runs/tit_for_tat
    python benchmarks/best_response.py runs/*/lightning_logs/version_0 --out best_response.json

One line per run: the best return, computed by dynamic programming from the partner's own probabilities; the
return of greedy play; the share of decisions that are a best response, and of episodes in which all are.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from omg_lightning.actors import LEARNER, arrange, make_player
from omg_lightning.cli import Networks, one_line, run
from omg_lightning.evaluation.best_response import best_response
from omg_lightning.games import MatrixGame
from omg_lightning.games.scripts import ScriptedPlayer
from omg_lightning.rollout import play
from omg_lightning.seeds import generator_of
from omg_lightning.types import ConfigError

EQUAL = 1e-6  # actions whose values differ by less are equally good


def measure(folder: Path, episodes: int) -> dict[str, object]:
    """Return the numbers of one run.

    Raises:
        ConfigError: the run is not a matrix game with a learner in seat 0 and a script in seat 1.
    """
    networks = run(["validate", "--config", str(folder / "config.yaml"), "--trainer.accelerator=cpu"], Networks)
    data = networks.datamodule
    game, seats = data.env.game, data.lineups[0]
    player = make_player(seats[1], data.env) if len(seats) == 2 and seats[0] == LEARNER != seats[1] else None
    if not isinstance(game, MatrixGame) or not isinstance(player, ScriptedPlayer):
        raise ConfigError(
            f"{folder} is a run of {data.env.name} with seats {seats}: give one of MatrixGame with [learner, a script]"
        )
    actors = {LEARNER: networks.model.load_actor(str(folder / "last.ckpt"))}
    seating = arrange([seats], episodes, data.env, torch.device("cpu"))
    with torch.no_grad():
        found = play(data.env, seating, actors, generator_of(data.seed, "match"), greedy=True).episodes
    best = best_response(game, player)
    optimal = best.regret(found) < EQUAL
    return {
        "game": repr(game),
        "partner": seats[1],
        "seed": data.seed,
        "best": best.value,
        "return": float(found.reward[..., 0].sum(0).mean()),
        "decisions": float(optimal.float().mean()),
        "episodes": float(optimal.all(0).float().mean()),
    }


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return a Markdown table of runs."""
    lines = [
        "| game | beside | seed | best | return | best decisions | best episodes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = f"{row['best']:.2f} | {row['return']:.2f} | {row['decisions']:.4f} | {row['episodes']:.2f}"
        lines.append(f"| {row['game']} | {row['partner']} | {row['seed']} | {numbers} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--episodes", type=int, default=200, help="episodes of each run; default: %(default)s")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    with one_line():
        rows = [measure(folder, args.episodes) for folder in args.runs]
    print(table(rows))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
