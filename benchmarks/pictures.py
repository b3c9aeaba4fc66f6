"""Draws the pictures of the games in the README and the docs.

Run:  python benchmarks/pictures.py docs/images/game.png
      python benchmarks/pictures.py docs/images/foraging.png --game foraging
      python benchmarks/pictures.py docs/images/overcooked.png --game overcooked
"""

import argparse
from typing import Any

import numpy as np
from PIL import Image

from omg_lightning.envs import GameParallelEnv, lbf_v0, overcooked_v0, stag_hunt_v0


def stag_hunt() -> np.ndarray:
    """Four hunters on 6x6 with a stag, hares and blocks."""
    layout = {
        "hunters": [(1, 4), (4, 2), (0, 0), (5, 5)],
        "stags": [(4, 2)],
        "hares": [(0, 3), (2, 5), (5, 0), (3, 4)],
        "blocks": [(1, 0), (1, 1), (1, 2), (2, 3), (3, 3), (3, 0), (3, 1), (4, 4), (5, 3)],
    }
    return shown(stag_hunt_v0.parallel_env(preset="4h1s_6x6", render_mode="rgb_array"), layout)


def foraging() -> np.ndarray:
    """Three foragers: two load an apple together, and take it with the next step."""
    layout = {
        "players": [(2, 2, 2), (3, 3, 1), (5, 6, 2)],
        "foods": [(2, 3, 3), (5, 5, 2), (1, 6, 1), (5, 1, 4)],
    }
    env = lbf_v0.parallel_env(preset="7x8-3p-4f", render_mode="rgb_array")
    before = shown(env, layout)
    load = env.game.action_names.index("load")
    env.step(dict.fromkeys(env.agents, load))
    return np.concatenate([before, env.render()], 1)


def overcooked() -> np.ndarray:
    """Two cooks: one brings an onion, the other a dish for the soup in the second pot."""
    layout = {
        "players": [(1, 2, "north", "onion"), (3, 4, "east", "dish")],
        "objects": [(2, 3, "onion"), (2, 5, "soup")],
        "pots": [(0, 3, 2, -1), (0, 4, 3, 12)],
    }
    return shown(overcooked_v0.parallel_env(preset="counter_circuit", render_mode="rgb_array"), layout)


def shown(env: GameParallelEnv, layout: dict[str, Any]) -> np.ndarray:
    """Return the picture of a layout, uint8 `[H, W, 3]`."""
    env.reset(seed=0, options=layout)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    return picture


GAMES = {"stag_hunt": stag_hunt, "foraging": foraging, "overcooked": overcooked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="picture to write")
    parser.add_argument("--game", choices=GAMES, default="stag_hunt")
    args = parser.parse_args()
    Image.fromarray(GAMES[args.game]()).save(args.out)


if __name__ == "__main__":
    main()
