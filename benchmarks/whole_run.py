"""Time whole commands: `fit` in this checkout and, in turns, in another one, each in a process of its own.

Run:  python benchmarks/whole_run.py docs/results/main_job.json --before ../older -- --config configs/base.yaml
      python benchmarks/whole_run.py docs/results/main_job.json --seeds 1 2 3 4 -- --config configs/base.yaml
`--before` is a checkout of an older commit (`git worktree add ../older COMMIT`). All after `--` goes to `fit`. The
result file has a row for each run: its commit, wall clock and processor time of the whole command (start, training,
final evaluation, figures), and what the last screen says. Rows of earlier calls for other seeds are kept.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
METRICS = (
    "return/team_mean",
    "return/length_mean",
    "goal/action_top1",
    "goal/action_share",  # of the best possible
    "goal/return_gain",
    "buffer/env_steps",
)


def environment_of(checkout: Path) -> dict[str, str]:
    """Return the environment of a command in a checkout."""
    return {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}


def commit_in(checkout: Path) -> str:
    """Return the commit of a checkout; asked before the result file, which belongs to one, changes."""
    code = "from omg_lightning.commit import commit_of; print(commit_of())"
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=checkout, env=environment_of(checkout), text=True, stdout=-1).stdout.strip()


def run(checkout: Path, commit: str, seed: int, arguments: list[str]) -> dict[str, Any]:
    """Run `fit` in a checkout; return its row.

    Raises:
        SystemExit: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--seed_everything", str(seed), "--trainer.default_root_dir", folder]
        words = [sys.executable, "-m", "omg_lightning", "fit", *arguments, *options]
        begin = time.perf_counter()
        with subprocess.Popen(words, cwd=checkout, env=environment_of(checkout), stdout=-3, stderr=-3) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begin
        if process.returncode:
            sys.exit(f"fit in {checkout} ended with exit code {process.returncode}: run it by itself to see why")
        (path,) = Path(folder).glob("**/metrics.json")
        found = json.loads(path.read_text())
    row = {"seed": seed, "commit": commit, "wall_s": round(wall, 1)}
    row["processor_s"] = round(used.ru_utime + used.ru_stime, 1)
    return row | {name: found[name] for name in METRICS if name in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="result file")
    parser.add_argument("--before", type=Path, help="checkout of an older commit")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    own = sys.argv[1:]
    cut = own.index("--") if "--" in own else len(own)
    args, arguments = parser.parse_args(own[:cut]), own[cut + 1 :]
    command = "python " + " ".join(["benchmarks/whole_run.py", *own])
    result: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    result |= {"benchmark": "whole-run", "command": command, "fit": arguments, "machine": platform.machine()}
    named = {"before": args.before, "after": HERE}
    sides = [(name, path.resolve(), commit_in(path)) for name, path in named.items() if path is not None]
    for seed in args.seeds:
        for name, checkout, commit in sides:
            row = run(checkout, commit, seed, arguments)
            rows = [each for each in result.get(name, []) if each["seed"] != seed]
            result[name] = sorted([*rows, row], key=lambda each: each["seed"])
            args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            print(name, json.dumps(row), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
