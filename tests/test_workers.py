"""Environments shared by processes: the same as playing the shares one after the other."""

import os
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from command_line import TINY, numbers, run
from number_games import Countdown
from toys import TokenGame, attached, plain_learner, same, stag_hunt, tiny_agent, tiny_data

from omg_lightning.actors import arrange
from omg_lightning.algorithms import PPO
from omg_lightning.data import AdaptationConfig
from omg_lightning.envs import PettingZooEnv, as_env
from omg_lightning.games import Game
from omg_lightning.rollout import match, play, workers
from omg_lightning.rollout.workers import at_once
from omg_lightning.types import NO_GOAL, ConfigError

DEVICE = torch.Generator().device  # the CPU, or that of `pytest --device`
LINEUPS = [["learner", "random", "learner"], ["random", "learner", "random"]]
GAMES = {
    "stag_hunt": stag_hunt(3, num_hares=6),
    "tokens": TokenGame(3),
    "no rules": Countdown(3),
    "pettingzoo": PettingZooEnv("parallel_toys.Toy"),
}


def rollout(game, batch=7, seed=0, prior=None, count=1, lineups=LINEUPS, learners=None):
    env, generator = as_env(game), torch.Generator().manual_seed(seed)
    return play(
        env, arrange(lineups, batch, env, DEVICE), learners or learners_of(game), generator, prior, workers=count
    )


def learners_of(game):
    """A learner that searches, or one that does not where there are no rules."""
    if isinstance(game, Game):
        return {"learner": plain_learner(game)}
    return {"learner": tiny_agent(game, "Subgoal", algorithm=PPO).actor()}


def shares(game, batch, count, seed=0):
    """Each share of the environments played alone, in this process."""
    env = as_env(game)
    seating = arrange(LINEUPS, batch, env, DEVICE)
    seeds = torch.randint(2**62, (count,), generator=torch.Generator().manual_seed(seed))
    parts = []
    for rows, each in zip(torch.arange(batch).tensor_split(count), seeds.tolist(), strict=True):
        random = torch.Generator().manual_seed(each)
        parts.append((rows, play(env, seating.keep(rows), learners_of(game), random)))
    return parts


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
@pytest.mark.parametrize("count", [2, 3])
def test_each_process_plays_its_share_as_if_alone(game, count):
    parts, played = shares(game, 7, count), rollout(game, count=count)
    lengths = {len(part.episodes.reward) for _, part in parts}
    assert len(played.episodes.reward) == max(lengths)
    for rows, part in parts:
        assert part.episodes.tensors().keys() == played.episodes.tensors().keys()
        for name, field in part.episodes.tensors().items():
            assert torch.equal(played.episodes.tensors()[name][: len(field), rows], field), name
        for name, belief in part.prior.items():
            assert torch.equal(played.prior[name][rows], belief)
    assert played.env_steps == sum(part.env_steps for _, part in parts)
    assert played.notes.keys() == parts[0][1].notes.keys()
    for name, value in played.notes.items():  # each share counts by its environment steps
        total = sum(part.notes[name] * part.env_steps for _, part in parts)
        assert value == pytest.approx(total / played.env_steps, rel=1e-6)


def test_a_shorter_share_is_padded():
    game = TokenGame(3)
    seed = next(seed for seed in range(20) if len({len(p.episodes.reward) for _, p in shares(game, 4, 2, seed)}) > 1)
    episodes = rollout(game, 4, seed, count=2).episodes
    over = ~episodes.active.any(-1)
    assert over[-1].any()
    for goals in (episodes.achieved_goal, episodes.true_goal):
        assert (goals[over] == NO_GOAL).all()
    assert episodes.legal[over][..., game.noop].all()
    for field in (episodes.reward, episodes.learner, episodes.terminated, *episodes.extras.values()):
        assert not field[over].any()


def test_results_depend_only_on_the_generator():
    game = stag_hunt(3, num_hares=6)
    learners, before = learners_of(game), torch.random.get_rng_state()
    one, two, other = (rollout(game, seed=seed, count=2, learners=learners).episodes for seed in (0, 0, 1))
    assert same(one, two)
    assert not same(one, other)
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator belongs to others"


def test_each_rank_gets_the_beliefs_of_its_own_environments():
    online = {"offline": {"rounds": 0}}
    data, apart = attached(tiny_data(**online)), attached(tiny_data(**online, workers=2))
    one = apart.refresh()[0].prior["learner"].clone()
    assert not data.refresh()[0].prior["learner"].equal(one), "the numbers depend on the number of processes"
    two = apart.refresh()[0]
    achieved = (two.episodes.achieved_goal != NO_GOAL).any(0)  # [B, P] whose prior moved on
    assert achieved.any()
    assert not achieved.all()
    assert torch.equal((two.prior["learner"] != one).any(-1), achieved)


def test_each_share_starts_with_the_beliefs_of_its_own_environments():
    game = stag_hunt(3, num_hares=6)
    learners = {"learner": tiny_agent(game, "Declared").actor()}
    first = torch.rand(7, 3, 2, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    prior = {"learner": first / first.sum(-1, keepdim=True)}
    lineups = [["learner", "random", "random"]]
    played = rollout(game, prior=prior, count=2, lineups=lineups, learners=learners)
    alone = rollout(game, prior=prior, lineups=lineups, learners=learners)
    torch.testing.assert_close(played.episodes.goal[0], alone.episodes.goal[0])


def test_there_are_no_more_processes_than_environments():
    assert rollout(stag_hunt(3, num_hares=6), batch=2, count=8).episodes.reward.shape[1] == 2


def test_jobs_run_in_processes_of_their_own_with_one_thread():
    found = at_once([lambda: (os.getpid(), torch.get_num_threads())] * 2)
    processes = {process for process, _ in found}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert [threads for _, threads in found] == [1, 1]


def test_a_users_mistake_in_a_worker_keeps_its_message(monkeypatch):
    def mistake():
        raise ConfigError("no such thing: name another")

    with pytest.raises(ConfigError, match=r"^no such thing: name another$"):
        at_once([lambda: 1, mistake])

    def defect():
        raise KeyError("where it happened")

    with pytest.raises(ConfigError, match=r"defect failed with KeyError: 'where it happened'"):
        at_once([lambda: 1, defect])
    monkeypatch.setattr(workers, "users_error", lambda error: None)  # a fault of the program keeps its stack
    with pytest.raises(KeyError, match=r"(?s)defect.*where it happened"):
        at_once([lambda: 1, defect])


def test_environments_that_processes_cannot_divide_are_refused(monkeypatch):
    game = stag_hunt(3, num_hares=6)
    env = as_env(game)
    elsewhere = SimpleNamespace(device=torch.device("cuda:0"))
    with pytest.raises(ConfigError, match=r"data\.workers is 2, but the device is cuda:0"):
        play(env, arrange(LINEUPS, 4, env, DEVICE), learners_of(game), elsewhere, workers=2)
    monkeypatch.setattr(workers, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(ConfigError, match=r"data\.workers"):
        rollout(game, count=2)


@pytest.mark.slow
def test_training_evaluations_and_matches_are_shared(monkeypatch):
    shared = []
    for module in ("omg_lightning.rollout.play", "omg_lightning.data.relationships"):
        found = import_module(module)
        monkeypatch.setattr(found, "at_once", lambda jobs: shared.append(len(jobs)) or at_once(jobs))
    data = attached(tiny_data(workers=2, adaptation=AdaptationConfig(relationships=4, steps=8, score_steps=8)))
    data.refresh()
    assert shared == [2]
    next(iter(data.evaluate(data.lineups, 4)))
    assert shared == [2, 2]
    segment = next(iter(data.adapt([0])))
    assert shared == [2, 2, 2]
    assert sorted(set(segment.relationship.tolist())) == list(range(len(data.partners) * 4))
    del shared[:]
    returns = match(data.env, ["random", "random"], {}, 6, 4, torch.Generator().manual_seed(0), 2)
    assert shared == [2, 2], "two batches of episodes"
    assert returns.shape == (6, 2)


@pytest.mark.slow
def test_a_run_with_workers_is_reproducible_and_resumes(tmp_path):
    args = [*TINY, "--data.workers=2"]
    whole, again = (run("fit", tmp_path / name, *args, "--trainer.max_epochs=4") for name in ("whole", "again"))
    part = run("fit", tmp_path / "part", *args, "--trainer.max_epochs=3")
    rest = run("fit", tmp_path / "rest", *args, "--trainer.max_epochs=4", "--ckpt_path", str(part / "last.ckpt"))
    expected, *others = (torch.load(x / "last.ckpt", weights_only=True)["state_dict"] for x in (whole, again, rest))
    for other in others:
        assert all(torch.equal(weight, other[name]) for name, weight in expected.items())
    assert numbers(whole)["return/team_mean"] == numbers(again)["return/team_mean"]
    folder = run("test", tmp_path / "test", *args, "--ckpt_path", str(whole / "last.ckpt"), "--data.partners=[random]")
    assert any(name.startswith("adapt/random") for name in numbers(folder))
