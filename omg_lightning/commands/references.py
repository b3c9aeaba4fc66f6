"""Measure the references that normalise the scores of `test`.

    python -m omg_lightning references --config configs/base.yaml --partners '[random, nearest_stag]'

For each partner, which plays all seats but seat 0, the command measures a random player in seat 0, and trains and
measures a learner there: the best response to this partner. It writes both returns to a file, by game and partner. It
skips existing entries, and several commands can add to one file at once. All other options are those of `fit` and
set how the best response is trained.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from omg_lightning.actors import CHECKPOINT, LEARNER, PAST, beside_learner
from omg_lightning.cli import CLI, Networks, run
from omg_lightning.commands.parser import CommandParser
from omg_lightning.envs.base import describe
from omg_lightning.evaluation import REFERENCES, References, align
from omg_lightning.files import check_writable
from omg_lightning.rollout import match
from omg_lightning.seeds import generator_of
from omg_lightning.types import ConfigError

# A best response trains with the partner itself, so no partner is unseen.
_ALONE = [f"--data.adaptation.{name}=null" for name in ("ratio", "change_within")] + ["--data.adaptation.unseen=[]"]


def main(args: Sequence[str]) -> None:
    """Run the command.

    Raises:
        ConfigError: an argument is invalid.
    """
    parser = CommandParser("references", __doc__)
    parser.add_argument("--partners", help="list of names, such as '[random, nearest_stag]'; default: data.partners")
    parser.add_argument("--out", default=REFERENCES, help="JSON file to extend; default: %(default)s")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="train one best response per seed, and use their mean"
    )
    own, settings = parser.parse_known_args(args)
    check_writable(Path(own.out))
    settings = [*settings, "--data.adaptation.references=null"]  # it may name the file that this command creates
    if own.partners is not None:
        settings += [f"--data.partners={json.dumps(_names(own.partners))}", *_ALONE]
    make(References(own.out), settings, own.seeds)


def make(references: References, settings: Sequence[str], seeds: Sequence[int]) -> None:
    """Add the missing entries to `references`, for the game and the partners of `settings`, and print a table.

    Args:
        references: open file.
        settings: options of `fit`.
        seeds: training seeds of the best responses.

    Raises:
        ConfigError: a partner changes during training, or the run is not a complete `fit`.
    """
    networks = run(["validate", *settings], Networks)
    data = networks.datamodule
    for name in (LEARNER, PAST):
        if name in data.strangers:
            raise ConfigError(f"the partner {name} changes during training: give one checkpoint:PATH of it")
    if networks.config["validate"]["trainer"]["fast_dev_run"]:
        raise ConfigError("--trainer.fast_dev_run is set, but references need complete runs: leave it out")
    game, lines = describe(data.env), [["partner", "random", "best response", "seeds"]]
    for partner in data.strangers:
        references.read()
        entry = references.find(game, partner)
        if entry is None:
            found = measure(networks, settings, partner, seeds)
            numbers = f"random {found['random']:.2f}, best response {found['best_response']:.2f}"
            print(f"{partner}: {numbers}", flush=True)  # before the file is written, which may fail
            entry = references.add(game, partner, found)
            if entry is not found:
                print(f"{partner}: another command added it to {references.path} meanwhile; that entry is kept")
        else:
            print(f"{partner}: skipped, it is in {references.path} already", flush=True)
        lines.append([partner, f"{entry['random']:.2f}", f"{entry['best_response']:.2f}", str(len(entry["seeds"]))])
        if entry["best_response"] <= entry["random"]:
            print(f"{partner}: its best response is no better than random play: train longer, with another --out")
    print(f"\n{align(lines)}\nwritten to {references.path}")


def measure(networks: Networks, settings: Sequence[str], partner: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the entry of a partner: mean returns per episode of seat 0, of a random player and of best responses."""
    data, device = networks.datamodule, networks.trainer.strategy.root_device
    lineup = beside_learner(partner, data.env.num_players)
    path, episodes = partner.removeprefix(CHECKPOINT), data.evaluation.episodes
    learners = {partner: networks.model.to(device).load_actor(path)} if partner.startswith(CHECKPOINT) else {}
    random = generator_of(seeds[0], "match", device)
    worst = match(data.env, ["random", *lineup[1:]], learners, episodes, data.num_envs, random, data.workers)[:, 0]
    returns = []
    for seed in seeds:
        print(f"{partner}: training a best response, seed {seed}", flush=True)
        # The configuration may set other seats for evaluations, such as those of self-play.
        seated = [f"--data.seats={json.dumps(lineup)}", "--data.evaluation.seats=null"]
        trained = run(["fit", *settings, *_ALONE, *seated, f"--seed_everything={seed}"], CLI)
        returns.append(float(trained.trainer.callback_metrics["return/seat_0_mean"]))
    return {
        "random": float(worst.mean()),
        "best_response": sum(returns) / len(returns),
        "episodes": episodes,
        "seeds": list(seeds),
        "best_response_seeds": returns,
        "env_steps": trained.datamodule.env_steps,
        "rounds": trained.trainer.max_epochs,
        "model": dict(trained.model.hparams),
    }


def _names(text: str) -> list[str]:
    try:
        names = yaml.safe_load(text)
    except yaml.YAMLError:
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"--partners is {text}: give a list of names, such as '[random, nearest_stag]'")
    return names
