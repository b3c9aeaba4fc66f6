"""What an embedding of the own history is worth: returns beside partners of several kinds, and a probe for the kind.

    for seed in 0 1 2; do for row in Direct LIAM MeLIBA Oracle; do
        python -m omg_lightning fit --config configs/matrix.yaml --config configs/ppo.yaml --config configs/liam.yaml \
            --model.opponent $row --data.game.preset=null --data.game.payoff='[[1,0,0],[0,1,0],[0,0,1]]' \
            --data.game.max_steps=20 --data.seats='[[learner,mostly_0],[learner,mostly_1],[learner,mostly_2]]' \
            --data.num_envs=96 --data.offline.rounds=0 --model.networks.hidden=32 --model.networks.sharing=shared \
            --model.learning_rate=0.003 --model.algorithm.discount=0.9 --model.algorithm.entropy=0.02 \
            --model.algorithm.minibatches=2 --trainer.max_epochs=40 --seed_everything=$seed \
            --trainer.default_root_dir=runs/${row}_$seed
    done; done
    python benchmarks/liam.py runs/*/lightning_logs/version_0 --out liam.json

In this game of guessing both are paid 1 if they play the same of three actions, and a partner plays one of them, its
kind, 4 times of 5. For each run a line: the return of greedy play; and how often a linear probe of what the policy sees
of the partner tells its kind, after so many steps. Without an opponent model that is the last joint action. The last
line is what exact Bayes over the kinds has.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from omg_lightning.actors import LEARNER, arrange
from omg_lightning.cli import Networks, one_line, run
from omg_lightning.evaluation.probe import linear_probe
from omg_lightning.rollout import play
from omg_lightning.seeds import generator_of
from omg_lightning.types import ConfigError, Episodes

STEPS = (1, 5, 10, 19)


def measure(folder: Path, episodes: int) -> tuple[dict[str, object], Episodes]:
    """Return the numbers of one run, and the episodes that they come from.

    Raises:
        ConfigError: it is no learner in seat 0 beside one of several partners.
    """
    networks = run(["validate", "--config", str(folder / "config.yaml"), "--trainer.accelerator=cpu"], Networks)
    data, opponent = networks.datamodule, networks.model.opponent
    if len(data.lineups) < 2 or any(len(names) != 2 or names[0] != LEARNER for names in data.lineups):
        raise ConfigError(f"{folder} has the seats {data.lineups}: give a run with [[learner, A], [learner, B], ...]")
    actor = networks.model.load_actor(str(folder / "last.ckpt"))
    seating = arrange(data.lineups, episodes, data.env, torch.device("cpu"))
    with torch.no_grad():
        found = play(data.env, seating, {LEARNER: actor}, generator_of(data.seed, "match"), greedy=True).episodes
    kind, half, probes = torch.arange(episodes) % len(data.lineups), episodes // 2, {}
    for step in STEPS:
        seen = opponent.as_seen(found.goal[step], torch.zeros_like(kind))[:, 1]
        if not opponent.size:
            seen = found.observation[step, :, 0].float().flatten(1)
        probes[str(step)] = linear_probe(seen[:half], kind[:half], seen[half:], kind[half:])
    row = {
        "opponent": type(opponent).__name__,
        "seed": data.seed,
        "return": _mean(found.reward[..., 0]),
        "kind": probes,
    }
    return row, found


def bayes(episodes: Episodes, chances: torch.Tensor) -> dict[str, object]:
    """Return the same numbers for one that knows the partners' chances `[K, A]`, and plays the likeliest action."""
    log_chance = chances.log()[:, episodes.action[..., 1]].permute(1, 2, 0)  # [T, B, K]
    posterior = torch.cat([torch.zeros_like(log_chance[:1]), log_chance.cumsum(0)[:-1]]).softmax(-1)
    guess = (posterior @ chances).argmax(-1)
    kind = torch.arange(guess.shape[1]) % len(chances)
    told = (posterior.argmax(-1) == kind).float().mean(1)
    hits = (guess == episodes.action[..., 1]).float()
    return {"opponent": "exact Bayes", "return": _mean(hits), "kind": {str(step): float(told[step]) for step in STEPS}}


def _mean(per_step: torch.Tensor) -> float:
    return float(per_step.sum(0).mean())


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return a Markdown table."""
    lines = [
        f"| opponent model | seed | return | {' | '.join(f'kind, step {step}' for step in STEPS)} |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        told = " | ".join(f"{share:.3f}" for share in row["kind"].values())  # type: ignore[attr-defined]
        lines.append(f"| {row['opponent']} | {row.get('seed', '-')} | {row['return']:.2f} | {told} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--episodes", type=int, default=1200, help="episodes of each run; default: %(default)s")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    with one_line():
        found = [measure(folder, args.episodes) for folder in args.runs]
    rows = sorted((row for row, _ in found), key=lambda row: (str(row["opponent"]), row["seed"]))
    rows.append(bayes(found[0][1], torch.full((3, 3), 0.1) + 0.7 * torch.eye(3)))
    print(table(rows))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
