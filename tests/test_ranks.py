"""Several ranks: what each draws and plays is its own, what they exchange is the same on all of them."""

import signal
from collections import Counter
from functools import partial

import pytest
import torch
from several import on_ranks
from torch import nn
from toys import attached, tiny_agent, tiny_data

from omg_lightning import interrupts, ranks
from omg_lightning.data import AdaptationConfig
from omg_lightning.interrupts import Interrupted
from omg_lightning.metrics import ReturnMetrics
from omg_lightning.seeds import ROLES, seed_of
from omg_lightning.types import ConfigError

KINDS = ["Declared", "Codebook"]


def test_ranks_have_streams_of_their_own():
    alone = {seed_of(seed, role, *part) for seed in range(5) for role in ROLES for part in [(), (0,), (1,), (0, 0)]}
    apart = [
        seed_of(seed, role, *part, rank=rank)
        for seed in range(5)
        for role in ROLES
        for part in [(), (0,), (1,)]
        for rank in range(8)
    ]
    assert len(set(apart)) == len(apart) == 5 * len(ROLES) * 3 * 8
    assert not alone & set(apart)


def test_a_single_process_communicates_nothing():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    ranks.average_gradients([weight])
    assert weight.grad.tolist() == [1, 1]
    assert (ranks.size(), ranks.rank(), ranks.stream(), ranks.gather(3), ranks.first(3)) == (1, 0, None, [3], 3)
    assert ranks.merge({"a": 1}) == ranks.own({"a": 1}) == ranks.mean({"a": 1}) == {"a": 1}
    assert ranks.rows(3).tolist() == [0, 1, 2]
    assert ranks.align({"a": weight}) is None


def exchange(rank):
    weights = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    weights[0].grad = torch.tensor([1.0, 2.0]) + 2 * rank
    if rank == 1:
        weights[1].grad = torch.tensor([4.0, 6.0])
    ranks.average_gradients(weights)
    buffer = torch.tensor([float(rank)])
    ranks.copy_first([buffer])
    state, rounded = ranks.merge({"own": rank}), torch.tensor(3 + 1e-5 * rank)
    return {
        "gradients": [None if weight.grad is None else weight.grad.tolist() for weight in weights],
        "buffer": buffer.item(),
        "mean": ranks.mean({"both": rank + 1.0, f"only {rank}": 5.0}),
        "rows": ranks.rows(5).tolist(),
        "own": ranks.own(state)["own"],
        "differs": ranks.align({"same": torch.ones(2), "drawn": torch.tensor([rank])}),
        "aligned": ranks.align({"rounded": rounded}),
        "rounded": rounded.item(),
    }


def test_collectives_return_the_same_values_on_both_ranks(tmp_path):
    one, two = on_ranks(tmp_path, exchange)
    for found in (one, two):
        assert found["gradients"] == [[2.0, 3.0], [2.0, 3.0], None]  # one rank without a gradient, and none with one
        assert found["buffer"] == 0
        assert found["mean"] == {"both": 1.5, "only 0": 5.0, "only 1": 5.0}
        assert found["differs"] == "drawn"
        assert found["aligned"] is None
        assert found["rounded"] == 3
    assert (one["rows"], two["rows"]) == ([0, 1, 2], [3, 4])
    assert (one["own"], two["own"]) == (0, 1)


def interrupted(rank):
    done = []
    with ranks.together():
        done.append("first")
    try:
        with ranks.together():
            if rank == 1:
                raise Interrupted(signal.SIGTERM)
            done.append("second")
    except Interrupted as stop:
        return done, stop.signal


def test_a_signal_on_one_rank_interrupts_all_ranks(tmp_path):
    one, two = on_ranks(tmp_path, interrupted)
    assert one == (["first", "second"], signal.SIGTERM)
    assert two == (["first"], signal.SIGTERM)


def signalled(rank):
    if rank == 0:
        interrupts.receive(signal.SIGINT)  # it comes between two safe points
    try:
        with ranks.together():
            pass
    except Interrupted as stop:
        return stop.signal


def test_a_signal_that_one_rank_has_received_ends_all_at_the_next_place(tmp_path):
    assert on_ranks(tmp_path, signalled) == [signal.SIGINT] * 2


# Playing ------------------------------------------------------------------------------------------------------------

LINEUPS = [["learner", "nearest_stag"], ["learner", "nearest_hare"], ["random", "learner"]]


def played(opponent, rank):
    data = attached(tiny_data(num_envs=6, seats=LINEUPS, evaluation={"episodes": 10}), opponent)
    data.setup("fit")
    for _ in range(3):  # two rounds offline
        found, _ = data.refresh()
    metric = ReturnMetrics()
    for episodes in data.evaluate(data.lineups, 10):
        metric.update(episodes)
    names = data.collector._seating
    return {
        "starts": found.episodes.observation[0].clone(),
        "own_steps": int(found.episodes.active.any(-1).sum()),
        "env_steps": (found.env_steps, data.env_steps),
        "who": [[names.names[index] for index in row] for row in names.who.tolist()],
        "capacity": data.buffer.capacity,
        "numbers": {name: float(value) for name, value in metric.compute().items()},
        "returns": torch.cat(metric.returns),
        "state": data.state_dict(),
        "batch": next(iter(data.train_dataloader())).episodes.active.shape[1],
    }


@pytest.mark.parametrize("opponent", KINDS)
def test_ranks_play_other_episodes_and_count_all_of_them(opponent, tmp_path):
    one, two = on_ranks(tmp_path, partial(played, opponent))
    assert one["starts"].shape == two["starts"].shape
    assert not torch.equal(one["starts"], two["starts"])
    assert one["env_steps"] == two["env_steps"]
    assert one["env_steps"][0] == one["own_steps"] + two["own_steps"]
    assert one["who"] + two["who"] == LINEUPS * 2  # each line-up as often as in one process
    assert one["capacity"] == two["capacity"] == 8
    assert one["batch"] == two["batch"] == 1
    assert one["numbers"] == two["numbers"]
    assert one["numbers"]["return/episodes"] == 10
    team = torch.cat([one["returns"], two["returns"]]).sum(-1)
    assert one["numbers"]["return/team_mean"] == pytest.approx(float(team.mean()))
    assert len(one["state"]["others"]) == 1
    states = [one["state"]["generators"]["rollout"], one["state"]["others"][0]["generators"]["rollout"]]
    assert not torch.equal(*states)


def resumed(rank):
    data = attached(tiny_data())
    data.setup("fit")
    data.refresh()
    state = data.state_dict()
    expected = data.refresh()[0].episodes
    again = attached(tiny_data())
    again.setup("fit")
    again.load_state_dict(state)
    found = again.refresh()[0].episodes
    return all(torch.equal(one, other) for one, other in zip(expected[:-1], found[:-1], strict=True)), state


def test_ranks_resume_their_own_state_and_another_number_of_ranks_is_refused(tmp_path):
    (same, state), (also, _) = on_ranks(tmp_path, resumed)
    assert same
    assert also
    with pytest.raises(ConfigError, match=r"^the checkpoint was trained with 2 processes, this run has 1: set --tra"):
        tiny_data().load_state_dict(state)


def adapted(networks, rank):
    config = AdaptationConfig(3, 16, 8, networks=networks)
    data = attached(tiny_data(partners=["random", "nearest_hare", "nearest_stag"], adaptation=config))
    data.setup("test")
    segments = list(data.test_dataloader())
    pairs = {(p, r) for s in segments for p, r in zip(s.partner.tolist(), s.relationship.tolist(), strict=True)}
    return sorted(pairs)


@pytest.mark.parametrize("networks", [False, True])
def test_ranks_share_out_the_adaptation_protocol(networks, tmp_path):
    one, two = on_ranks(tmp_path, partial(adapted, networks))
    assert not set(one) & set(two)
    assert sorted(number for _, number in one + two) == list(range(9)), "each relationship is on one rank"
    assert Counter(partner for partner, _ in one + two) == {0: 3, 1: 3, 2: 3}
    assert {pair[0] for pair in one} == ({0, 2} if networks else {0, 1, 2})


def test_a_rank_with_nothing_to_train_has_a_loss_without_weights(tmp_path):
    def work(rank):
        agent = tiny_agent(tiny_data().env, "Direct")
        agent.losses = lambda batch: {}
        loss = agent.training_step(None, 0)
        loss.backward()
        return loss.item(), [weight.grad for weight in agent.parameters()]

    for loss, gradients in on_ranks(tmp_path, work):
        assert loss == 0
        assert not any(gradient is not None for gradient in gradients)


SHARES = {
    "data.num_envs is 4": ({}, 3),
    "data.training.batch_size is 3": ({}, 2),
    "data.evaluation.episodes is 5": ({"training": {"batch_size": 4}}, 2),
}


@pytest.mark.parametrize("line", SHARES)
def test_sizes_that_ranks_cannot_share_evenly_are_refused(line, tmp_path):
    settings, count = SHARES[line]
    with pytest.raises(ConfigError, match=f"^{line}[^\n]* {count} processes"):
        tiny_data(**settings).check_ranks(count, None)


def test_sizes_that_ranks_share_evenly_are_taken():
    settings = {"training": {"batch_size": 4}, "evaluation": {"episodes": 6, "val_episodes": 4}}
    tiny_data(**settings).check_ranks(2, None)
