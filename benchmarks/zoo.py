"""Train the agents of the zoo and put them into the package, each with the command, commit, seed and numbers.

Run:  python benchmarks/zoo.py base matrix_ppo 4h1s_4x4     (without names: all; `--root` keeps the run folders)
An agent of this name is replaced. Everything must be committed, so that the commit says what the agent was made with.
A finished run in ROOT/NAME is taken as it is; `--commit` says what it was made with. Weights have 16 bits.
`python -m omg_lightning zoo` lists the result; a new entry is a line in `AGENTS`.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from omg_lightning.commands.export import commit_of, export
from omg_lightning.sources import ZOO_FOLDER

BASE, MATRIX = "--config configs/base.yaml", "--config configs/matrix.yaml"
AGENTS = {  # the options of `fit`, from the root of the repository
    "base": BASE,
    "beliefs": "--config configs/beliefs.yaml",
    "policy": f"{BASE} --config configs/policy.yaml",
    "liam": f"{BASE} --config configs/ppo.yaml --config configs/liam.yaml",
    **{name: f"{BASE} --config configs/{name}.yaml" for name in ("4h1s_4x4", "4h1s_6x6", "4h1s", "4h2s", "msg", "lbf")},
    **{name: f"{BASE} --config configs/{name}.yaml" for name in ("adapt_4x4", "adapt_6x6", "adapt_8x8", "adapt_msg")},
    "ends_early": f"{BASE} --config configs/4h1s_4x4.yaml --config configs/ends_early.yaml",
    "matrix": MATRIX,
    "matrix_ppo": f"{MATRIX} --config configs/ppo.yaml",
    "guessing": f"{MATRIX} --config configs/guessing.yaml",
    "lola": f"{MATRIX} --config configs/lola.yaml",
    "coin": "--config configs/coin.yaml",
    "overcooked": "--config configs/overcooked.yaml",
}
WITHOUT = {  # configurations without an agent of their own
    "smoke": "learns nothing",
    "vae": "trains no policy",
    "subgoal": "trains no policy",
    "ppo": "is in matrix_ppo and liam",
    "pettingzoo": "is about a game of another package",
    "predator_prey": "is about a game of another package",
}
ROOT = Path(__file__).parents[1]
LIMIT = 10 * 2**20  # bytes, of all agents together


def make(name: str, options: str, root: Path, commit: str) -> int:
    """Train an agent, unless its run is finished, and put it into the zoo; return the size of its weights."""
    command = f"python -m omg_lightning fit {options}"
    words = [sys.executable, *shlex.split(command)[1:], "--trainer.default_root_dir", str(root / name)]
    print(command, flush=True)
    if not list((root / name).glob("lightning_logs/*/metrics.json")):
        subprocess.run(words, cwd=ROOT, check=True)
    (run,) = (root / name / "lightning_logs").iterdir()
    folder = ZOO_FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    return export(str(run), folder, command, commit, half=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"agents to train, of {', '.join(AGENTS)}; default: all")
    parser.add_argument("--root", type=Path, help="folder of the runs; default: a temporary folder")
    parser.add_argument(
        "--commit", help="with which the finished runs below --root were made; default: the present one"
    )
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in AGENTS]:
        parser.error(f"unknown agent {unknown[0]}: give some of {', '.join(AGENTS)}")
    commit = commit_of()
    if commit is None or commit.endswith("+"):
        parser.error("some changes are not committed: commit them first, so that the recorded commit is exact")
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.names or AGENTS:
            size = make(name, AGENTS[name], args.root or Path(temporary), args.commit or commit)
            print(f"zoo:{name}: {size / 2**20:.2f} MiB", flush=True)
    total = sum(path.stat().st_size for path in ZOO_FOLDER.rglob("*") if path.is_file())
    print(f"the zoo: {total / 2**20:.2f} MiB of {LIMIT / 2**20:.0f}")


if __name__ == "__main__":
    main()
