"""A recurrent network over whole episodes that skips the padding."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class History(nn.GRU):
    """One `torch.nn.GRU` layer, which also reads a batch of episodes of different lengths.

    Args:
        inputs: I, size of the input of a step.
        hidden: H, size of the state.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden)

    def episodes(self, inputs: Tensor, known: Tensor) -> Tensor:
        """Return the states after each step, float `[T, R, H]`; 0 after the last known step of a row.

        On a CPU the gradient of the weights is one product over all steps. PyTorch adds up one product for each step,
        which takes twice the time.

        Args:
            inputs: float `[T, R, I]`; each row starts without history.
            known: bool `[T, R]`.
        """
        known = known.flip(0).cumsum(0).flip(0) > 0  # at this step or later
        states = inputs.new_zeros(*known.shape, self.hidden_size)
        if known.numel() and inputs.device.type != "cpu":
            return torch.where(known[..., None], self(inputs)[0], 0.0)
        if not bool(known.any()):
            return states
        order = known.sum(0).argsort(descending=True, stable=True)  # rows that are over are then the last ones
        packed = known[:, order]
        counts = [count for count in packed.sum(1).tolist() if count]
        gates = F.linear(inputs[:, order][packed], self.weight_ih_l0, self.bias_ih_l0)
        states[packed] = _Steps.apply(gates, self.weight_hh_l0, self.bias_hh_l0, counts).to(states.dtype)
        return states[:, order.argsort()]


class _Steps(torch.autograd.Function):
    """The recurrent part of a GRU: `n = tanh(g_n + r * (W_n h + b_n))`, `h' = (1 - z) * n + z * h`.

    Gates are in PyTorch's order: reset r, update z, new n (Cho et al. 2014, arXiv 1406.1078; see `torch.nn.GRU`). Rows
    `[m, ...]` are sorted by step. The rows of a step continue the first rows of the step before.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # whatever `trainer.precision` is
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, counts: list[int]) -> Tensor:
        """Return the states `[m, H]` from input gates `[m, 3H]` and the numbers of rows of each step."""
        size = weight.shape[1]
        states, kept = gates.new_empty(len(gates), size), torch.empty_like(gates)  # kept: r, z and W_n h + b_n
        new, turned = torch.empty_like(states), weight.t()
        state, start = gates.new_zeros(counts[0], size), 0
        for count in counts:
            rows = slice(start, start + count)
            given, gate, old = gates[rows], kept[rows], state[:count]
            torch.addmm(bias, old, turned, out=gate)
            gate[:, : 2 * size].add_(given[:, : 2 * size]).sigmoid_()
            reset, update, inner = gate.chunk(3, 1)
            torch.addcmul(given[:, 2 * size :], reset, inner, out=new[rows]).tanh_()
            state = torch.lerp(new[rows], old, update, out=states[rows])
            start += count
        ctx.save_for_backward(weight, states, kept, new)
        ctx.counts = counts
        return states

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of gates, weight and bias, by that of the states `[m, H]`."""
        weight, states, kept, new = ctx.saved_tensors
        counts, size = ctx.counts, weight.shape[1]
        starts = [sum(counts[:t]) for t in range(len(counts))]
        old = torch.zeros_like(states)  # the state before each step
        for t in range(1, len(counts)):
            old[starts[t] : starts[t] + counts[t]] = states[starts[t - 1] : starts[t - 1] + counts[t]]
        reset, update, inner = kept.chunk(3, 1)
        by_new = (1 - update) * (1 - new * new)
        by_update = (old - new) * update * (1 - update)
        by_reset = inner * reset * (1 - reset)
        inside, last = torch.empty_like(kept), torch.empty_like(new)
        later = states.new_zeros(0, size)  # gradient from later steps
        for t in reversed(range(len(counts))):
            rows = slice(starts[t], starts[t] + counts[t])
            grad, out = grads[0][rows].clone(), inside[rows]
            grad[: len(later)] += later
            torch.mul(grad, by_new[rows], out=last[rows])
            torch.mul(last[rows], by_reset[rows], out=out[:, :size])
            torch.mul(grad, by_update[rows], out=out[:, size : 2 * size])
            torch.mul(last[rows], reset[rows], out=out[:, 2 * size :])
            later = torch.addmm(grad * update[rows], out, weight)
        return torch.cat([inside[:, : 2 * size], last], 1), inside.t() @ old, inside.sum(0), None
