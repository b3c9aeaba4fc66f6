"""Evaluate learned goals without search: codes of scripted play, and beliefs over codes and over declared goals.

    python benchmarks/codes.py --out codes.json

First, for each game and seed: codes are learned from 256 episodes of scripts, and measured on 256 others. NMI is the
mutual information of the code of an event and the declared goal that was achieved there, over their mean entropy;
`missed` is the share of these events without a code, `false` that of codes at steps that achieved no declared goal;
`perplexity` says how many codes are in use, `stability` how many events have the code that they had ten batches before.

Then, for `--belief GAME`, the co-player policies are trained on the same episodes, once under declared goals and once
under codes, both with goals that change at events and labels by smoothing. On the other episodes: the NMI of belief and
true goal, the probability of the true goal after so many steps, and how often the next action is predicted; beside it
the same of exact Bayes on the scripts. Prints a line of JSON for each row.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import omg_lightning  # noqa: F401 - first, for it sets how threads wait before torch is loaded

# isort: split
import torch
from torch import Tensor

from omg_lightning.actors import arrange
from omg_lightning.algorithms import BestResponseSearch
from omg_lightning.encoders import Paths
from omg_lightning.envs import RulesEnv
from omg_lightning.evaluation.exact import exact_observer
from omg_lightning.games import CoinGame, Game, LevelBasedForaging, Snowdrift, StagHunt
from omg_lightning.losses import masked_logits
from omg_lightning.metrics import BeliefMetrics, CodeMetrics
from omg_lightning.opponents import BeliefConfig, Codebook, Declared, TransitionConfig
from omg_lightning.rollout import play
from omg_lightning.seeds import generator_of
from omg_lightning.spec import GameSpec
from omg_lightning.training import Agent, NetworkConfig
from omg_lightning.types import NO_GOAL, Batch, Episodes, View

FORAGERS = [["secret_order", "secret_order"], ["random", "secret_order"]]
HUNTERS = [["nearest_stag"] * k + ["nearest_hare"] * (4 - k) for k in range(5)]
GAMES: dict[str, tuple[Game, list[list[str]]]] = {
    "2h1s_4x4": (StagHunt("2h1s_4x4"), [["nearest_stag"] * k + ["nearest_hare"] * (2 - k) for k in range(3)]),
    "4h1s_4x4": (StagHunt("4h1s_4x4"), HUNTERS),
    "4h1s_6x6": (StagHunt("4h1s_6x6"), HUNTERS),
    "4h2s": (StagHunt("4h2s"), HUNTERS),
    "msg": (Snowdrift("msg"), [["cleaner"] * k + ["defector"] * (4 - k) for k in range(1, 4)]),
    "lbf 6x6-2p-3f": (LevelBasedForaging("6x6-2p-3f", prosocial=True), FORAGERS),
    "lbf 8x8-2p-3f": (LevelBasedForaging("8x8-2p-3f"), FORAGERS),
    "lbf 8x8-2p-3f, prosocial": (LevelBasedForaging("8x8-2p-3f", prosocial=True), FORAGERS),
    "lbf 7x7-2p-3f-no-levels": (LevelBasedForaging("7x7-2p-3f-no-levels"), FORAGERS),
    "lbf 8x8-2p-3f, vector": (LevelBasedForaging("8x8-2p-3f", view="vector"), FORAGERS),
    "lbf 7x7-2p-3f-no-levels, vector": (LevelBasedForaging("7x7-2p-3f-no-levels", view="vector"), FORAGERS),
    "coin": (CoinGame(), [["cooperative", "selfish"], ["selfish", "selfish"], ["cooperative", "cooperative"]]),
}
BATCH, BATCHES = 64, 30


def played(game: Game, lineups: list[list[str]], count: int, seed: int, role: str) -> Episodes:
    """Return `count` episodes of scripts."""
    env, random = RulesEnv(game), generator_of(seed, role)
    return play(env, arrange(lineups, count, env, torch.device("cpu")), {}, random).episodes


def agent_of(kind: type[Codebook | Declared], game: Game, seed: int) -> Agent:
    """Return an agent with an opponent model of this kind; it never acts."""
    torch.manual_seed(seed)
    changes = {"belief": BeliefConfig(labels="smoothing"), "transition": TransitionConfig(at_events=True)}
    encoder: dict[str, Any] = {} if game.layout is None else {"encoder": Paths}
    return Agent(
        partial(kind, **changes),  # type: ignore[arg-type]
        algorithm=BestResponseSearch,
        networks=NetworkConfig(128),
        spec=GameSpec.of(RulesEnv(game)).plain(),
        seed=seed,
        **encoder,
    )


def codes(name: str, seed: int, episodes: int) -> dict[str, Any]:
    """Return what the codes of one game and seed are like."""
    game, lineups = GAMES[name]
    train, fresh = (played(game, lineups, episodes, seed, role) for role in ("rollout", "match"))
    model, random = agent_of(Codebook, game, seed).opponent, generator_of(seed, "buffer")
    assert isinstance(model, Codebook)
    before = torch.empty(0)
    for batch in range(BATCHES):
        rows = torch.randperm(episodes, generator=random)[:BATCH]
        model.learn(train.map(lambda field, rows=rows: field[:, rows]), random)
        if batch == BATCHES - 11:
            before = model.label(fresh)
    found, achieved = model.label(fresh), (fresh.achieved_goal != NO_GOAL) & fresh.active
    metrics = CodeMetrics(model.size, len(game.goal_names), lambda played: found)
    metrics.update(fresh, fresh.active)
    values, event = {key: float(value) for key, value in metrics.compute().items()}, found != NO_GOAL
    return {
        "game": name,
        "seed": seed,
        "nmi": values.get("goal/code_nmi_realised"),
        "missed": float((achieved & ~event).sum() / achieved.sum()),
        "false": float((event & ~achieved).sum() / event.sum()),
        "perplexity": values["goal/code_perplexity"],
        "stability": float((before == found)[event | (before != NO_GOAL)].float().mean()),
    }


def belief(name: str, seed: int, episodes: int, steps: int) -> list[dict[str, Any]]:
    """Return what beliefs over declared goals and over codes say of the true goals, and exact Bayes beside them."""
    game, lineups = GAMES[name]
    train, fresh = (played(game, lineups, episodes, seed, role) for role in ("rollout", "match"))
    who, exact = fresh.active & (fresh.true_goal != NO_GOAL), exact_observer(RulesEnv(game), fresh)
    rows = []
    for kind in (Declared, Codebook):
        agent, random = agent_of(kind, game, seed), generator_of(seed, "buffer")
        model, optimizer = agent.opponent, torch.optim.Adam(agent.opponent.parameters(), lr=2e-3)
        unseen = train._replace(goal=torch.zeros(*train.active.shape, model.size))  # nobody watched
        for _ in range(steps):
            some = torch.randperm(episodes, generator=random)[:BATCH]
            part = unseen.map(lambda field, some=some: field[:, some])
            loss = model.losses(agent.training_batch(Batch(part, 0, True), random))["coplayer"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            believed, hit = follow(model, fresh, game)
        metrics = BeliefMetrics(len(game.goal_names), believed.shape[-1], kind is Declared, game.max_steps)
        rows.append(measured(kind.__name__, fresh._replace(goal=believed), who, metrics, hit))
    if exact is not None:
        metrics = BeliefMetrics(len(game.goal_names), len(game.goal_names), True, game.max_steps)
        rows.append(measured("exact Bayes", fresh._replace(goal=exact.belief), who, metrics, exact.best))
    return [{"game": name, "seed": seed, **row} for row in rows]


def follow(model: Codebook | Declared, episodes: Episodes, game: Game) -> tuple[Tensor, Tensor]:
    """Return the belief about each seat before each step, `[T, B, P, G]`, and whether its action was the likeliest."""
    length, count, seats = episodes.active.shape
    memory = model.start(model.prior(count), torch.full((count, seats), NO_GOAL))
    seat, beliefs, hits = torch.arange(seats).repeat(count), [], []
    reward = torch.zeros_like(episodes.reward[0])
    for t in range(length):
        time, active = torch.full((count,), t / game.max_steps), episodes.active[t]
        view = View(episodes.observation[t].float(), episodes.legal[t], time, active, reward)
        beliefs.append(model.infer(memory, view).point)
        flat, legal = view.observation.flatten(0, 1), view.legal.flatten(0, 1)
        log_chance = model.forecast(flat, time.repeat_interleave(seats), seat, legal, beliefs[-1].flatten(0, 1))
        guess = masked_logits(log_chance, legal).argmax(-1).view(count, seats)
        hits.append((guess == episodes.action[t]).float())
        memory = model.update(memory, view, episodes.action[t], episodes.achieved_goal[t])
        reward = episodes.reward[t]
    return torch.stack(beliefs), torch.stack(hits)


def measured(name: str, episodes: Episodes, who: Tensor, metrics: BeliefMetrics, hit: Tensor) -> dict[str, Any]:
    """Return a row: the metrics of a belief, `Episodes.goal`, and the share of actions that it predicts."""
    metrics.update(episodes, who)
    found = {key: float(value) for key, value in metrics.compute().items()}
    wanted = ["nmi_3", "nmi_5", "nmi_10", "nmi_all", "true_3", "true_5", "true_10", "true_all"]
    return {"belief": name, "top1": float(hit[who].mean())} | {key: found[f"goal/belief_{key}"] for key in wanted}


def main(args: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="*", choices=GAMES, default=list(GAMES))
    parser.add_argument("--belief", nargs="*", choices=GAMES, default=["lbf 6x6-2p-3f", "4h1s_4x4"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(args)
    rows = []
    for seed in range(given.seeds):
        for name in given.games:
            rows.append(codes(name, seed, given.episodes))
            print(json.dumps(rows[-1]), flush=True)
        for name in given.belief:
            for row in belief(name, seed, given.episodes, given.steps):
                rows.append(row)
                print(json.dumps(row), flush=True)
    if given.out is not None:
        command = shlex.join(["python", "benchmarks/codes.py", *(sys.argv[1:] if args is None else args)])
        given.out.write_text(json.dumps({"benchmark": "codes", "command": command, "rows": rows}, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    main()
