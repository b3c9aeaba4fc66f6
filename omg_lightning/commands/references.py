"""Makes the references by which scores of `test` are normalised.

    python -m omg_lightning.commands.references --config configs/base.yaml --partners '[random, nearest_stag]'

Beside three (or P - 1) of each partner it measures a random player, and trains and measures a learner: the best
response to exactly these. Both returns go to a file, by game and partner; what is there already is not made again. All
other options are those of `fit` and say how the best response is trained.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
import yaml

from omg_lightning.cli import CLI, Parts, one_line, run
from omg_lightning.evaluation import REFERENCES, References, align
from omg_lightning.rollout import CHECKPOINT, LEARNER, match
from omg_lightning.types import ConfigError


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command. A mistake of the user's ends in one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(
        "python -m omg_lightning.commands.references", description=__doc__, allow_abbrev=False
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--partners", help="list of names, such as '[random, nearest_stag]'; default: data.partners")
    parser.add_argument("--out", default=REFERENCES, help="the file; default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a best response for each; their mean counts")
    own, settings = parser.parse_known_args(args)
    with one_line():
        settings = [*settings, "--data.references=null"]  # it may name the file that is to be made
        if own.partners is not None:
            settings.append(f"--data.partners={json.dumps(_names(own.partners))}")
        make(References(own.out), settings, own.seeds)


def make(references: References, settings: Sequence[str], seeds: Sequence[int]) -> None:
    """Adds what is missing to `references`, for the game and the partners of `settings`, and prints a table.

    Args:
        references: open file.
        settings: options of `fit`.
        seeds: of the best responses.
    """
    parts = run(["validate", *settings], Parts)
    data = parts.datamodule
    if LEARNER in data.partners:
        raise ConfigError("the partner learner is not always the same: name a checkpoint of it, checkpoint:PATH")
    if parts.config["validate"]["trainer"]["fast_dev_run"]:
        raise ConfigError("references need a whole `fit`: leave out --trainer.fast_dev_run")
    game, lines = data.game_options, [["partner", "random", "best response", "seeds"]]
    for partner in data.partners:
        entry = references.find(game, partner)
        if entry is None:
            entry = measure(parts, settings, partner, seeds)
            references.add(game, partner, entry)
        else:
            print(f"{partner}: is in {references.path} already", flush=True)
        lines.append([partner, f"{entry['random']:.2f}", f"{entry['best_response']:.2f}", str(len(entry["seeds"]))])
        if entry["best_response"] <= entry["random"]:
            print(f"{partner}: the best response is no better than random play; train it for longer, into another file")
    print(f"\n{align(lines)}\nwritten to {references.path}")


def measure(parts: Parts, settings: Sequence[str], partner: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The entry of a partner: mean return per episode of seat 0, played by a random player and by best responses."""
    data, device = parts.datamodule, parts.trainer.strategy.root_device
    beside = [partner] * (data.num_players - 1)
    path = partner.removeprefix(CHECKPOINT)
    learners = {partner: parts.model.to(device).load_learner(path)} if partner.startswith(CHECKPOINT) else {}
    random = torch.Generator(device).manual_seed(seeds[0])
    seated = ["random", *beside]
    worst = match(data.game, seated, learners, data.eval_episodes, data.num_envs, random, data.workers)[:, 0]
    returns = []
    for seed in seeds:
        print(f"{partner}: training a best response, seed {seed}", flush=True)
        lineup = json.dumps([LEARNER, *beside])
        trained = run(["fit", *settings, f"--data.seats={lineup}", f"--seed_everything={seed}"], CLI)
        returns.append(float(trained.trainer.callback_metrics["return/seat_0_mean"]))
    return {
        "random": float(worst.mean()),
        "best_response": sum(returns) / len(returns),
        "episodes": data.eval_episodes,
        "seeds": list(seeds),
        "best_response_seeds": returns,
        "env_steps": trained.datamodule.env_steps,
        "rounds": trained.trainer.max_epochs,
        "model": dict(trained.model.hparams),
    }


def _names(text: str) -> list[str]:
    names = yaml.safe_load(text)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"--partners is {text}: give a list of names, such as '[random, nearest_stag]'")
    return names


if __name__ == "__main__":
    main()
