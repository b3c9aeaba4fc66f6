"""The recurrent network over whole episodes, beside PyTorch's."""

import pytest
import torch

from omg_lightning.encoders import History

LENGTHS = torch.tensor([2, 5, 0, 1, 5])


def both(dtype: torch.dtype = torch.float64) -> tuple[History, torch.Tensor, torch.Tensor]:
    """Return a network, inputs `[6, 5, 3]`, and which steps are known; the last step is of nobody."""
    torch.manual_seed(0)
    known = torch.arange(6)[:, None] < LENGTHS
    return History(3, 4).to(dtype), torch.randn(6, 5, 3, dtype=dtype, requires_grad=True), known


def test_states_and_gradients_of_episodes_are_those_of_a_plain_gru():
    net, inputs, known = both()
    found = []
    for states in (net.episodes(inputs, known), torch.where(known[..., None], net(inputs)[0], 0.0)):
        net.zero_grad()
        inputs.grad = None
        (states * torch.linspace(-1, 2, states.numel(), dtype=states.dtype).view_as(states)).sin().sum().backward()
        assert inputs.grad is not None
        found.append([states, inputs.grad, *(weight.grad for weight in net.parameters())])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


def test_padding_changes_no_state_and_has_no_gradient():
    net, inputs, known = both()
    states = net.episodes(inputs, known)
    states.sum().backward()
    assert inputs.grad is not None
    assert not inputs.grad[~known].any()
    assert not states[~known].any()
    torch.testing.assert_close(net.episodes(torch.where(known[..., None], inputs, 7.0), known), states)


def test_a_row_that_is_unknown_at_first_is_read_from_its_first_step():
    net, inputs, known = both()
    known[0, 1] = False
    torch.testing.assert_close(net.episodes(inputs, known)[:5, 1], net(inputs)[0][:5, 1])


@pytest.mark.parametrize("steps", [0, 6])
def test_without_a_known_step_all_states_are_zero(steps):
    net, inputs, known = both()
    states = net.episodes(inputs[:steps], torch.zeros_like(known[:steps]))
    assert states.shape == (steps, 5, 4)
    assert not states.any()


def test_weights_are_those_of_a_plain_gru():
    net, inputs, known = both(torch.float32)
    plain = torch.nn.GRU(3, 4)
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(net.episodes(inputs, known)[:, 1][:5], plain(inputs)[0][:5, 1])


def test_mixed_precision_changes_states_by_rounding_alone():
    net, inputs, known = both(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        states = net.episodes(inputs, known)
    states.sum().backward()
    assert inputs.grad is not None
    torch.testing.assert_close(states, net.episodes(inputs, known), rtol=0, atol=0.05)
