"""Draws the README's picture of the game: `python benchmarks/pictures.py docs/images/game.png`."""

import argparse

from PIL import Image

from omg_lightning.envs import stag_hunt_v0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="the picture")
    out = parser.parse_args().out
    env = stag_hunt_v0.parallel_env(preset="4h1s_6x6", render_mode="rgb_array")
    layout = {
        "hunters": [(1, 4), (4, 2), (0, 0), (5, 5)],
        "stags": [(4, 2)],
        "hares": [(0, 3), (2, 5), (5, 0), (3, 4)],
        "blocks": [(1, 0), (1, 1), (1, 2), (2, 3), (3, 3), (3, 0), (3, 1), (4, 4), (5, 3)],
    }
    env.reset(seed=0, options=layout)
    Image.fromarray(env.render()).save(out)


if __name__ == "__main__":
    main()
