"""Time the rules of a game (legal actions and a joint step), and optionally JaxMARL's Overcooked for comparison.

Run:  python benchmarks/games.py [--peer-python peer/bin/python] [--growth]
      python benchmarks/games.py --game coin           # or a preset of Level-Based Foraging or Overcooked
`--peer-python` is an interpreter with JaxMARL (`python -m venv peer; peer/bin/pip install jaxmarl`), run in turns with
ours. The rules of the two games differ, so the peer is a yardstick and not a rival: two cooks, step without reset, at
the same batch. Ours: 8x8, four hunters, five block pieces; each step computes what is legal and plays a joint action;
a whole batch starts anew every 32 steps. Drawing actions is not counted; in the peer it is, with its observations.
Prints a table and then one JSON line.
"""

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch

from omg_lightning.games import CoinGame, Game, LevelBasedForaging, Overcooked, StagHunt
from omg_lightning.games.grid.kitchen import GRIDS

STEPS = 32
TARGET: dict[str, Any] = {"batch": 4096}
GROWTH: list[dict[str, Any]] = [
    *({"batch": batch} for batch in (64, 256, 1024, 4096, 16384)),
    *({"num_players": players} for players in (2, 8)),
    *({"side": side} for side in (6, 12, 16)),
]


@contextmanager
def peer(python: str | None, batch: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """Start the peer and yield its version and a function that returns its steps a second."""
    if python is None:
        yield "", lambda: float("nan")
        return
    script = Path(__file__).parent / "peers" / "jaxmarl_games.py"
    command = [python, str(script), "--batch", str(batch)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        write, read = process.stdin.write, process.stdout.readline
        line = read().strip()
        while line and not line.startswith("jaxmarl "):  # it says hello on import
            line = read().strip()
        yield line, lambda: float((write("go\n"), read())[1])
        process.stdin.close()


def measure(
    repeats: int,
    python: str | None,
    batch: int = 4096,
    num_players: int = 4,
    side: int = 8,
    observe: bool = False,
    name: str = "stag_hunt",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Play random legal actions in the game `name`; return a row of results, medians over the repeats.

    Players and side are those of Stag-Hunt; other games have their own. Seconds are those of `clock`.
    """
    generator = torch.Generator().manual_seed(0)
    game: Game
    if name == "stag_hunt":
        blocks = 5 if side >= 8 else 3 if side >= 6 else 0
        game = StagHunt.preset("4h1s", num_players=num_players, height=side, width=side, num_blocks=blocks)
    else:
        game = CoinGame() if name == "coin" else Overcooked(name) if name in GRIDS else LevelBasedForaging(name)
        assert game.layout is not None
        num_players, side = game.num_players, game.layout.height
    start = state = game.reset(batch, generator)
    actions = []
    for _ in range(STEPS):
        weights = game.legal(state).flatten(0, 1).float()
        actions.append(torch.multinomial(weights, 1, generator=generator).view(batch, -1))
        state, _ = game.step(state, actions[-1])
    looks = (lambda _: None, game.observe)[observe]

    def run() -> float:
        state, begin = start, clock()
        for action in actions:
            game.legal(state)
            looks(state)
            state, _ = game.step(state, action)
        return batch * STEPS / (clock() - begin)

    ours, theirs = [], []
    with peer(python, batch) as (version, time_peer):
        run()
        for _ in range(repeats):
            ours.append(run())
            if python is not None:
                theirs.append(time_peer())
    row: dict[str, Any] = {"game": game.name, "batch": batch, "players": num_players, "side": side}
    row["env_steps_per_s"] = median(ours)
    if theirs:
        row |= {"peer": version, "peer_per_s": median(theirs), "ratio": median(ours) / median(theirs)}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="Python interpreter with JaxMARL installed")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--game", default="stag_hunt", help="stag_hunt, coin, or a preset: 8x8-2p-3f, cramped_room, ..."
    )
    parser.add_argument("--growth", action="store_true", help="measure how cost grows with batch, players and grid")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time, for a machine that others use, too")
    parser.add_argument("--observe", action="store_true", help="also compute every seat's observation")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="threads of our side; JAX uses all cores"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    rows = []
    print(f"{'batch':>7}{'players':>9}{'side':>7}{'ours/s':>12}{'overcooked/s':>14}{'ratio':>7}")
    with torch.inference_mode():  # as in a rollout
        for settings in GROWTH if args.growth and args.game == "stag_hunt" else [TARGET]:
            row = measure(args.repeats, args.peer_python, observe=args.observe, name=args.game, clock=clock, **settings)
            rows.append(row)
            line = f"{row['batch']:7}{row['players']:9}{row['side']:7}{row['env_steps_per_s']:12,.0f}"
            print(line + (f"{row['peer_per_s']:14,.0f}{row['ratio']:7.2f}" if "ratio" in row else ""), flush=True)
    machine = {"machine": platform.machine(), "threads": args.threads, "torch": torch.__version__}
    print(json.dumps({"benchmark": "games", **machine, "rows": rows}))


if __name__ == "__main__":
    main()
