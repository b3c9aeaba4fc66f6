"""Train the agents of the zoo and put them into the package, each with the command, commit, seed and numbers.

Run:  python benchmarks/zoo.py base matrix_ppo 4h1s_4x4     (without names: all; `--root` keeps the run folders)
      python benchmarks/zoo.py 4h1s --root ROOT             (takes the finished run in ROOT/4h1s/lightning_logs)
      python benchmarks/zoo.py base --stored                (writes the agent that is in the zoo again)
An agent of this name is replaced. To train one, everything must be committed: a run records the commit that made it.
Matrices are rounded to 8 bits, and the agent is evaluated again after that: its numbers are those of the files in the
package, and `return_of_run` is the team return of the run. `python -m omg_lightning zoo` lists the result; a new entry
is a line in `AGENTS`.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml

from omg_lightning.commands.export import CONFIG, KEPT, commit_in, export
from omg_lightning.commit import commit_of
from omg_lightning.files import replace_text
from omg_lightning.sources import DESCRIPTION, ZOO_FOLDER
from omg_lightning.training import read_agent

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
    "secret": "is for comparisons of opponent models",
    "pettingzoo": "is about a game of another package",
    "predator_prey": "is about a game of another package",
}
ROOT = Path(__file__).parents[1]
LIMIT = 10 * 2**20  # bytes, of all agents together


def run_of(name: str, root: Path, commit: str | None) -> tuple[Path, str]:
    """Return the finished run of an agent, which is trained if there is none, and the commit that made it."""
    logs = root / name / "lightning_logs"
    if not logs.is_dir():
        now = commit_of()
        if now is None or now.endswith("+"):
            sys.exit("error: some changes are not committed: commit them first, so that the recorded commit is exact")
        fit(name, root)
    run, *others = sorted(logs.iterdir())
    if others:
        sys.exit(f"error: {logs} has {1 + len(others)} runs: expected one; move the others")
    if not (run / "metrics.json").is_file():
        sys.exit(f"error: {run} has no metrics.json: its run is not over")
    made = commit_in(run) or commit
    if made is None:
        sys.exit(f"error: {run} does not record the commit that made it: give it with --commit")
    if made.endswith("+"):
        sys.exit(f"error: {run} was made with changes after the commit {made[:-1]}: train it again without them")
    return run, made


def check_options(name: str, run: Path) -> None:
    """Refuse a run that was not made with the options of an agent, but for those that say what it shows and where."""
    words = [*shlex.split(command_of(name))[1:], "--print_config"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted, found = (settings(yaml.safe_load(text)) for text in (done.stdout, (run / CONFIG).read_text()))
    shown = ("trainer.callbacks", "trainer.default_root_dir", "trainer.enable_progress_bar")
    for key in (key for key in found if key in wanted and key not in shown and found[key] != wanted[key]):
        sys.exit(f"error: {run} has {key} {found[key]}, but {name} has {wanted[key]} now: train it again")


def settings(config: Any, path: str = "") -> dict[str, Any]:
    """Return all settings of a configuration by their full names."""
    if not isinstance(config, dict):
        return {path: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= settings(value, f"{path}.{key}" if path else key)
    return found


def fit(name: str, root: Path) -> None:
    """Train an agent."""
    words = shlex.split(command_of(name))[1:]
    subprocess.run([sys.executable, *words, "--trainer.default_root_dir", str(root / name)], cwd=ROOT, check=True)


def command_of(name: str) -> str:
    """Return the command that trains an agent."""
    return f"python -m omg_lightning fit {AGENTS[name]}"


def evaluate(folder: Path) -> dict[str, float]:
    """Return the metrics of the evaluation that ends a run, for an exported agent."""
    stored = read_agent(folder)
    state = {"hyper_parameters": dict(stored.settings), "state_dict": dict(stored.weights)}
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = Path(temporary) / "agent.ckpt"
        torch.save({**state, "pytorch-lightning_version": lightning.__version__}, checkpoint)
        words = ["validate", "--config", str(folder / CONFIG), "--ckpt_path", str(checkpoint)]
        words += ["--trainer.default_root_dir", temporary, "--trainer.enable_progress_bar", "false"]
        subprocess.run([sys.executable, "-m", "omg_lightning", *words], cwd=ROOT, check=True, capture_output=True)
        (found,) = Path(temporary).glob("lightning_logs/*/metrics.json")
        return json.loads(found.read_text())


def write(name: str, source: str, commit: str | None) -> None:
    """Put an agent into the zoo, with the metrics of what is written there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        size = export(source, folder, command_of(name), commit, small=True)
        about = json.loads((folder / DESCRIPTION).read_text())
        made = about["made"]
        made.setdefault("return_of_run", made["metrics"]["return/team_mean"])
        for metric, value in evaluate(folder).items():
            if metric.startswith(KEPT) and metric in made["metrics"] and not metric.startswith(("buffer/", "time/")):
                made["metrics"][metric] = value
        replace_text(folder / DESCRIPTION, json.dumps(about, indent=1) + "\n")
        shutil.rmtree(ZOO_FOLDER / name, ignore_errors=True)
        shutil.copytree(folder, ZOO_FOLDER / name)
    played, trained = made["metrics"]["return/team_mean"], made["return_of_run"]
    print(f"zoo:{name}: {size / 2**20:.2f} MiB, team return {played:.2f}, of the run {trained:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"agents to train, of {', '.join(AGENTS)}; default: all")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--root", type=Path, help="folder of the runs; default: a temporary folder")
    source.add_argument("--stored", action="store_true", help="write the agents that are in the zoo again")
    parser.add_argument("--commit", help="that made the finished runs below --root, for runs that do not record it")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in AGENTS]:
        parser.error(f"unknown agent {unknown[0]}: give some of {', '.join(AGENTS)}")
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.names or AGENTS:
            print(command_of(name), flush=True)
            if args.stored:
                write(name, str(ZOO_FOLDER / name), None)
            else:
                run, commit = run_of(name, args.root or Path(temporary), args.commit)
                check_options(name, run)
                write(name, str(run), commit)
    total = sum(path.stat().st_size for path in ZOO_FOLDER.rglob("*") if path.is_file())
    print(f"the zoo: {total / 2**20:.2f} MiB of {LIMIT / 2**20:.0f}")


if __name__ == "__main__":
    main()
