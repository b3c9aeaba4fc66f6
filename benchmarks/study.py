"""Runs a study: some settings, several seeds each, and a table of what came of it.

    python benchmarks/study.py --list
    python benchmarks/study.py goals trees --seeds 5 --out runs/studies

Every run is one `python -m omg_lightning fit` with configs/base.yaml, configs/study.yaml and the flags of its arm. Runs
that are there already are not repeated, and arms with the same flags share their runs, so a study can be stopped and
gone on with. The tables hold means over seeds with 95% intervals (Student's t), and the difference from the first arm
seed by seed, with its interval. `studies.json` in the output folder has the same numbers and the flags.
"""

import argparse
import hashlib
import json
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

from table import half_width, written

GOALS = {"none": "Direct", "declared": "Declared", "subgoal": "Subgoal", "codebook": "Codebook", "oracle": "Oracle"}
SUBGOAL = "--model.opponent=Subgoal"
NO_PICTURE = "--model.opponent.vae.reconstruction=0"
SELF_PLAY = ["--config=configs/4h1s_6x6.yaml", "--model.algorithm.trees=2", "--model.learning_rate_decay=false"]
SELF_PLAY += ["--model.encoder=Centred"]
SELF_PLAY += ["--trainer.max_epochs=35", "--trainer.check_val_every_n_epoch=35"]  # 15 of them offline
NOT_OFFLINE = ["--data.offline.rounds=0", "--trainer.max_epochs=20", "--trainer.check_val_every_n_epoch=20"]
PUBLISHED_SOFTMAX = ["--model.algorithm.planner.beta=2", "--model.algorithm.planner.rescale=false"]
PLAIN = ["--model.encoder=MLP", "--data.training.symmetries=false"]
DRIFTS = ["--config=configs/msg.yaml", "--model.learning_rate_decay=false", "--data.evaluation.episodes=128"]
DRIFTS += ["--trainer.max_epochs=20", "--trainer.check_val_every_n_epoch=20"]  # 12 of them offline
FOUR = ["--data.game.preset=4h1s_4x4", "--data.seats=[learner,switcher,switcher,switcher]"]


def opponent(goals: str, *flags: str) -> list[str]:
    """Return the flags of an opponent model and of its own settings."""
    return [f"--model.opponent={GOALS[goals]}", *flags]


STUDIES: dict[str, dict[str, list[str]]] = {
    "goals": {goals: opponent(goals) for goals in GOALS},
    "goals-4": {  # beside three of them, each with a goal of its own
        goals: [*opponent(goals), *FOUR] for goals in ("none", "declared", "codebook")
    },
    "goal-dim": {f"{size}": opponent("subgoal", f"--model.opponent.goal_dim={size}") for size in (16, 64, 4, 2)},
    "trees": {
        f"{goals}, {trees}": [*opponent(goals), f"--model.algorithm.trees={trees}"]
        for goals in ("declared", "subgoal")
        for trees in (5, 1)
    },
    "objective": {
        "reconstruction": [SUBGOAL],
        "squared error": [SUBGOAL, "--model.opponent.vae.error=mse"],
        "action": [SUBGOAL, NO_PICTURE, "--model.opponent.vae.action=1"],
        "next actions": [SUBGOAL, NO_PICTURE, "--model.opponent.vae.next_actions=1"],
        "all three": [SUBGOAL, "--model.opponent.vae.action=1", "--model.opponent.vae.next_actions=1"],
    },
    "vae-online": {
        "adjusted online": [SUBGOAL],
        "frozen after the offline phase": [SUBGOAL, "--model.opponent.vae_online=false"],
        "online only": [SUBGOAL, "--data.offline.rounds=0"],
    },
    "refresh": {
        f"{goals}, {name}": [*opponent(goals), *flags]
        for goals in ("declared", "subgoal")
        for name, flags in {
            "8 rounds": [],
            "2 rounds": ["--refresh.max_age=2"],
            "never": ["--refresh.max_age=null"],
        }.items()
    },
    "trap": {  # what gets self-play out of the hare trap; 20 rounds of it in each arm
        "codebook": [*SELF_PLAY, *opponent("codebook")],
        "none": [*SELF_PLAY, *opponent("none")],
        "codebook, no offline phase": [*SELF_PLAY, *NOT_OFFLINE, *opponent("codebook")],
        "none, no offline phase": [*SELF_PLAY, *NOT_OFFLINE, *opponent("none")],
    },
    "drifts": {  # what gets self-play in Snowdrift to clear the last drifts; 8 rounds of it in each arm
        "as configured": DRIFTS,
        "no goals": [*DRIFTS, *opponent("none")],
        "discount 0.95": [*DRIFTS, "--model.algorithm.planner.discount=0.95"],
        "discounted returns alone": [*DRIFTS, "--model.algorithm.planner.td_lambda=1"],
        "prior that follows": [*DRIFTS, "--model.opponent.belief.inter=true"],
        "co-player model trained online": [*DRIFTS, "--model.opponent.online=true"],
        "learned codes": [*DRIFTS, *opponent("codebook")],
        "32 simulations": [*DRIFTS, "--model.algorithm.simulations=32"],
    },
    "reading": {  # the same, without goals, offline phase and the sharper softmax: how the board is read
        name: [*SELF_PLAY, *NOT_OFFLINE, *opponent("none"), *PUBLISHED_SOFTMAX, *flags]
        for name, flags in {
            "centred, turned boards": [],
            "centred alone": ["--data.training.symmetries=false"],
            "turned boards alone": ["--model.encoder=MLP"],
            "neither": PLAIN,
            "distances, turned boards": ["--model.encoder=Paths"],
        }.items()
    },
    "belief": {
        "intra and inter": opponent("declared"),
        "intra only": opponent("declared", "--model.opponent.belief.inter=false"),
        "inter only": opponent("declared", "--model.opponent.belief.intra=false"),
        "neither": opponent("declared", "--model.opponent.belief.intra=false", "--model.opponent.belief.inter=false"),
    },
}
COLUMNS = {  # metric -> name; one that no arm has is left out
    "return/team_mean": "team return",
    "return/seat_0_mean": "learner's return",
    "return/team_discounted": "discounted",
    "return/length_mean": "steps",
    "goal/action_share": "action top-1 / best",
    "goal/action_bayes_share": "action top-1 / Bayes",
    "goal/belief_decided_5": "belief decided after 5 steps",
    "goal/belief_nmi_3": "NMI after 3 steps",
    "goal/hit_ratio": "hit ratio",
    "goal/hit_ratio_selected": "hit ratio of those selected",
    "goal/recall_other": "recall of others",
    "goal/recall_hares": "recall of hares",
    "loss/vae_reconstruction": "reconstruction",
    "loss/vae_kl": "KL",
    "goal/active_units": "active units",
    "goal/return_shuffled": "return, goals shuffled",
    "goal/return_none": "return, goals drawn blindly",
    "time/fit_s": "training, s",
}
COMPARED = ("return/team_mean", "return/team_discounted")  # seed by seed with the first arm


def folder(out: Path, flags: list[str], seed: int) -> Path:
    """Return the folder of a run of these flags and seed: arms with the same flags share it."""
    name = re.sub(r"[^A-Za-z0-9.]+", "_", " ".join(flag.removeprefix("--") for flag in flags)).strip("_")
    if len(name) > 200:  # file systems allow 255
        name = f"{name[:180]}_{hashlib.sha1(name.encode()).hexdigest()[:12]}"
    return out / name / f"seed_{seed}"


def run(where: Path, flags: list[str], seed: int, extra: list[str]) -> dict[str, float]:
    """Run one `fit`, unless it is there already; return its metrics."""
    found = sorted(where.glob("lightning_logs/version_*/metrics.json"))
    if not found:
        where.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "omg_lightning", "fit"]
        command += ["--config", "configs/base.yaml", "--config", "configs/study.yaml"]
        command += [*flags, *extra, f"--seed_everything={seed}", f"--trainer.default_root_dir={where}"]
        start = time.perf_counter()
        with (where / "log.txt").open("w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
        print(f"  {time.perf_counter() - start:4.0f} s  {shlex.join(command[5:])}", file=sys.stderr, flush=True)
        found = sorted(where.glob("lightning_logs/version_*/metrics.json"))
    return json.loads(found[-1].read_text())


def table(arms: dict[str, list[dict[str, float]]]) -> str:
    """Return a Markdown table with a column for each arm: means over seeds, and differences from the first arm."""
    first = next(iter(arms.values()))
    lines = [f"| | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|"]
    for metric, name in COLUMNS.items():
        cells = []
        for runs in arms.values():
            values = [seed[metric] for seed in runs if metric in seed]
            cells.append(written(statistics.mean(values), half_width(values)) if values else "-")
        if any(cell != "-" for cell in cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
        if metric in COMPARED:
            pairs = [[a[metric] - b[metric] for a, b in zip(runs, first, strict=True)] for runs in arms.values()]
            cells = ["-", *(written(statistics.mean(each), half_width(each), "+") for each in pairs[1:])]
            lines.append(f"| {name}, against the first | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="names of studies; all of them by default")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    parser.add_argument(
        "--flags", nargs="*", default=[], help="of all runs, such as --flags=--data.game.preset=4h1s_4x4"
    )
    args = parser.parse_args()
    if unknown := [name for name in args.studies if name not in STUDIES]:
        parser.error(f"no study {unknown[0]!r}: there are {', '.join(STUDIES)}")
    if args.list:
        for name, arms in STUDIES.items():
            print(
                name, *(f"  {arm}: {' '.join(flags) or '(nothing changed)'}" for arm, flags in arms.items()), sep="\n"
            )
        return
    report = {}
    for name in args.studies or STUDIES:
        found: dict[str, list[dict[str, float]]] = {}
        for arm, flags in STUDIES[name].items():
            seeds = range(args.seeds)
            found[arm] = [run(folder(args.out, [*flags, *args.flags], s), flags, s, args.flags) for s in seeds]
        print(f"\n### {name}\n\n{table(found)}", flush=True)
        report[name] = {arm: {"flags": STUDIES[name][arm], "seeds": runs} for arm, runs in found.items()}
    (args.out / "studies.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
