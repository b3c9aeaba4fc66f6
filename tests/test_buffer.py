import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import same, snapshot

from omg_lightning.data import EpisodeBuffer
from omg_lightning.events import next_achieved
from omg_lightning.types import NO_GOAL, ConfigError, Episodes

T, P = 5, 2


def numbered(first, count, length, junk=99, dtype=torch.uint8):
    """`count` episodes of random lengths up to `length`; every entry carries its episode's number, padding `junk`."""
    lengths = torch.randint(1, length + 1, (count,), generator=torch.Generator().manual_seed(first))
    lengths[0] = length
    active = (torch.arange(length)[:, None] < lengths)[..., None].expand(length, count, P)
    number = torch.arange(first, first + count)[:, None].expand(length, count, P).where(active, junk)

    def wide(*shape, dtype):
        return number.view(*number.shape, *[1] * len(shape)).expand(*number.shape, *shape).to(dtype)

    later = torch.cat([active[1:], torch.zeros_like(active[:1])])
    return Episodes(
        observation=wide(3, 2, 2, dtype=dtype), legal=wide(4, dtype=torch.bool), action=number.clone(),
        reward=wide(dtype=torch.float32), active=active, terminated=active & ~later, truncated=active & later,
        learner=active, goal=wide(2, dtype=torch.float32), achieved_goal=number.clone(), true_goal=number.clone(),
        extras={"root_policy": wide(4, dtype=torch.float32), "seen": wide(dtype=torch.int64)},
    )  # fmt: skip


def numbers(episodes):
    """Which episodes these are; asserts that each is whole and holds nothing else where somebody is active."""
    assert episodes.active[0].all()
    assert episodes.active[-1].any(), "cut to the longest"
    found = episodes.action[0, :, 0]
    assert set(episodes.extras) == {"root_policy", "seen"}
    for name, field in episodes.tensors().items():
        values = field.flatten(3) if field.dim() > 3 else field[..., None]
        if field.dtype != torch.bool:
            expected = found[None, :, None, None].to(field.dtype).expand_as(values)
            assert torch.equal(values[episodes.active], expected[episodes.active]), name
    return found.tolist()


rounds = st.lists(st.tuples(st.integers(1, 4), st.integers(1, T), st.integers(0, 3)), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(rounds, st.integers(4, 9))
def test_the_buffer_against_a_plain_list(rounds, capacity):
    """Each round adds episodes of some length and then drops what is older than some age."""
    buffer, model, played_in, first = EpisodeBuffer(capacity, T), [], {}, 1
    for born, (count, length, age) in enumerate(rounds):
        buffer.add(numbered(first, count, length), born)
        played_in |= {first + k: born for k in range(count)}
        model = (model + [born] * count)[-capacity:]  # rounds of the episodes held, oldest first
        first += count
        kept = [when for when in model if when >= born - age]
        assert buffer.drop(born - age) == len(model) - len(kept)
        model = kept
        assert len(buffer) == len(model)
        assert buffer.oldest() == model[0]
        drawn = numbers(buffer.sample(len(model), torch.Generator().manual_seed(born)))
        assert len(set(drawn)) == len(drawn), "everything held, each once"
        assert sorted(played_in[number] for number in drawn) == model


def test_an_older_round_makes_room_first():
    buffer = EpisodeBuffer(4, T)
    buffer.add(numbered(1, 2, T), 0)
    buffer.add(numbered(3, 2, T), 1)
    buffer.add(numbered(5, 3, 2), 2)
    assert sorted(numbers(buffer.sample(4, torch.Generator()))) == [4, 5, 6, 7]
    assert buffer.drop(before=0) == 0
    assert buffer.drop(before=2) == 1
    assert sorted(numbers(buffer.sample(3, torch.Generator()))) == [5, 6, 7]


def test_samples_are_drawn_evenly_without_replacement_as_far_as_they_go(generator):
    buffer = EpisodeBuffer(8, T)
    buffer.add(numbered(1, 5, T), 0)
    for _ in range(10):
        drawn = numbers(buffer.sample(3, generator))
        assert len(set(drawn)) == 3
        more = numbers(buffer.sample(12, generator))
        assert all(more.count(k) in (2, 3) for k in range(1, 6))
    counts = torch.zeros(6)
    for _ in range(300):
        counts[numbers(buffer.sample(1, generator))] += 1
    assert counts[1:].min() > 30


def test_a_sample_is_a_copy():
    buffer = EpisodeBuffer(4, T)
    episodes = numbered(1, 2, T)
    buffer.add(episodes, 0)
    before = snapshot(buffer.sample(2, torch.Generator().manual_seed(0)))
    for each in (episodes, buffer.sample(2, torch.Generator())):
        for field in each.tensors().values():
            field.zero_()
    assert same(buffer.sample(2, torch.Generator().manual_seed(0)), before)


def test_an_overwritten_longer_episode_leaves_no_values():
    buffer = EpisodeBuffer(2, T)
    buffer.add(numbered(1, 2, T), 0)
    buffer.add(numbered(3, 1, 2), 1)
    found = buffer.sample(2, torch.Generator())  # one of the old ones keeps the length at T
    short = found.action[0, :, 0].tolist().index(3)
    assert len(found.active) == T
    for name, field in found.tensors().items():
        empty = NO_GOAL if name in ("achieved_goal", "true_goal") else 0
        assert (field[2:, short] == empty).all(), name


def test_the_padding_of_a_short_episode_achieves_nothing():
    # Goal 0 is a goal (the stag), not NO_GOAL: labels must not read the padding. It matters when rounds of different
    # lengths are drawn together and an episode closed early (`steps_after_first_hunt`).
    buffer = EpisodeBuffer(4, T)
    for born, length in enumerate((T, 2)):
        nothing = numbered(1 + born, 1, length)
        buffer.add(nothing._replace(achieved_goal=torch.full_like(nothing.achieved_goal, NO_GOAL)), born)
    episodes = buffer.sample(2, torch.Generator())
    assert (episodes.achieved_goal == NO_GOAL).all()
    assert (next_achieved(episodes.achieved_goal, episodes.active) == NO_GOAL).all()


def test_mistakes_are_named():
    buffer = EpisodeBuffer(2, T)
    with pytest.raises(ConfigError, match="empty"):
        buffer.sample(1, torch.Generator())
    with pytest.raises(ConfigError, match="capacity"):
        buffer.add(numbered(1, 3, T), 0)
    buffer.add(numbered(1, 1, T), 0)
    buffer.drop(1)
    assert len(buffer) == buffer.oldest() == 0
    with pytest.raises(ConfigError, match="empty"):
        buffer.sample(1, torch.Generator())
    with pytest.raises(ConfigError, match="capacity"):
        buffer.load_state_dict(EpisodeBuffer(3, T).state_dict())


@pytest.mark.parametrize("filled", [False, True])
def test_the_state_survives_a_file(filled):
    buffer, other = EpisodeBuffer(4, T), EpisodeBuffer(4, T)
    if filled:
        buffer.add(numbered(1, 3, T), 0)
        buffer.add(numbered(4, 3, 2), 1)
    other.add(numbered(50, 4, T), 7)
    file = io.BytesIO()
    torch.save(buffer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert len(other) == len(buffer)
    if filled:
        one, two = (b.sample(4, torch.Generator().manual_seed(0)) for b in (buffer, other))
        assert same(one, two)
    one, two = buffer, other
    for each in (one, two):
        each.add(numbered(9, 2, 3), 5)
    assert same(*(b.sample(2, torch.Generator().manual_seed(1)) for b in (one, two)))


# On-policy data -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000))
def test_each_pass_covers_every_held_episode_once_in_so_many_parts(count, epochs, minibatches, seed):
    buffer = EpisodeBuffer(12, T)
    buffer.add(numbered(90, 3, T), 0)
    buffer.add(numbered(1, count, T), 1)
    buffer.drop(before=1)  # what was dropped takes no part
    random = torch.Generator().manual_seed(seed)
    if minibatches > count:
        with pytest.raises(ConfigError, match=rf"holds {count} episodes, too few for {minibatches} minibatches"):
            next(buffer.passes(epochs, minibatches, random))
        return
    parts = [numbers(part) for part in buffer.passes(epochs, minibatches, random)]
    assert len(parts) == epochs * minibatches
    for epoch in range(epochs):
        own = parts[epoch * minibatches : (epoch + 1) * minibatches]
        assert sorted(number for part in own for number in part) == list(range(1, count + 1))
        sizes = [len(part) for part in own]
        assert max(sizes) - min(sizes) <= 1, "parts are as large as each other"


def test_each_pass_has_an_order_of_its_own_that_the_generator_decides():
    buffer = EpisodeBuffer(8, T)
    buffer.add(numbered(1, 8, T), 0)
    one, two, other = (
        [numbers(part) for part in buffer.passes(3, 2, torch.Generator().manual_seed(seed))] for seed in (1, 1, 2)
    )
    assert one == two
    assert one != other
    assert len({tuple(first + second) for first, second in zip(one[::2], one[1::2], strict=True)}) == 3


def test_the_message_about_too_few_episodes_names_the_cure_in_one_line():
    buffer = EpisodeBuffer(4, T)
    buffer.add(numbered(1, 2, T), 0)
    with pytest.raises(ConfigError, match=r"raise data\.num_envs or lower model\.algorithm\.minibatches") as caught:
        next(buffer.passes(1, 3, torch.Generator()))
    assert "\n" not in str(caught.value)


# Views --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8, torch.int32, torch.int64, torch.uint8])
def test_views_keep_their_dtype_also_through_a_file(dtype):
    buffer, other = EpisodeBuffer(4, T), EpisodeBuffer(4, T)
    episodes = numbered(1, 2, T, dtype=dtype)
    odd = episodes.observation * 0.5 - 1.7 if dtype.is_floating_point else episodes.observation
    episodes = episodes._replace(observation=odd)
    buffer.add(episodes, 0)
    file = io.BytesIO()
    torch.save(buffer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for each in (buffer, other):
        found = each.sample(2, torch.Generator().manual_seed(0))
        assert found.observation.dtype == dtype
        order = found.action[0, :, 0] - 1
        assert same(found.observation[found.active], episodes.observation[:, order][found.active])
