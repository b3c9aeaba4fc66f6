"""A batch of search trees as flat tensors, and the steps of a simulation: descend, expand, climb, back up.

Every tree gains one slot per simulation. Slot s of tree t is row `s * T + t` of every tensor, the "node id". So a new
generation of nodes is one contiguous slice, and the roots are rows 0..T-1. M is the number of rows,
`(num_simulations + 1) * T`. Edge statistics are stored action-major, because reducing over the leading dimension is
several times faster than over a trailing dimension of 5 or 7. An "edge id" is `action * M + node id`.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor


class Root(NamedTuple):
    """The root nodes of T searches."""

    prior_logits: Tensor  # [T, A]
    value: Tensor  # [T] the network's value
    legal: Tensor  # bool [T, A]
    state: Any  # input of `model_fn`: a tensor, or a (nested) NamedTuple of tensors, with leading T


class ModelOutput(NamedTuple):
    """The model's output for one transition in each of T trees."""

    prior_logits: Tensor  # [T, A] at the next state
    value: Tensor  # [T] of the next state; ignored where `discount` is 0
    reward: Tensor  # [T] of the transition
    discount: Tensor  # [T] in [0, 1]; 0 ends the branch
    legal: Tensor  # bool [T, A] at the next state


ModelFn = Callable[[Any, Tensor], tuple[ModelOutput, Any]]


class Tree(NamedTuple):
    """T trees, written in place. A node's reward, discount and `into` belong to the edge that leads to it.

    A row is a node of its tree if it is a root or `child[into[row]] == row`. Other rows are unused slots.
    """

    edges: Tensor  # [3, A, M] visits N(s, a); total return W(s, a); prior as `prior_of` returns it, -inf if illegal
    nodes: Tensor  # [3, M] the network's value (0 past the end of a branch), reward, discount
    child: Tensor  # int64 [A * M] the node that an edge leads to; the edge's own node if there is none yet
    parent: Tensor  # int64 [M] a root is its own parent
    into: Tensor  # int64 [M] edge id
    chosen: Tensor  # int64 [M] id of the edge that the rule chooses at this node, always up to date
    follow: Tensor  # int64 [M] `child` of the chosen edge: a descent follows this pointer until it is a fixed point
    ended: Tensor  # bool [M] the branch ends here: the discount is 0, or no action is legal
    state: Any  # [num_simulations * T, ...] states; the last generation is never expanded, so its states are not stored
    roots: Tensor  # int64 [T] node ids

    @property
    def visits(self) -> Tensor:
        """`[A, M]` N(s, a)."""
        return self.edges[0]

    @property
    def total(self) -> Tensor:
        """`[A, M]` W(s, a), the sum of the returns backed up."""
        return self.edges[1]


Choose = Callable[[Tree, Tensor, int], Tensor]  # (tree, node ids [L], the last T the roots; simulation) -> actions [L]


def map_state(fn: Callable[..., Any], *states: Any) -> Any:
    """Apply `fn` to the corresponding tensors of one or more states: tensors or (nested) tuples of tensors."""
    first = states[0]
    if isinstance(first, Tensor):
        return fn(*states)
    parts = [map_state(fn, *parts) for parts in zip(*states, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def best_of(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest of `scores` `[A, L]` and its action, the first of equals. NaN scores give any valid action."""
    if scores.device.type != "cpu" or scores.shape[1] < 768:
        return scores.max(0)  # `argmax` is ten times slower on a CPU
    # the same result by vectorised operations, which are faster on a CPU for many columns
    highest = scores.amax(0)
    below = (scores - highest).sign_()  # 0 at the highest, -1 elsewhere
    actions = torch.arange(len(scores), dtype=scores.dtype, device=scores.device)
    return highest, torch.sub(actions[:, None], below, alpha=len(scores)).amin(0).long()


class _Spare(threading.local):
    """The block of memory for the next search of a thread. Every thread has its own."""

    block: Tensor | None = None


class Arena:
    """Memory that consecutive searches of a thread reuse: touching fresh pages costs more than all copies into them.

    A search takes the spare block of its thread, so that searches nested in it cannot take the same one. It puts back
    a block that is large enough for a search of the same size. Used on the CPU only: on a GPU, PyTorch itself keeps
    freed memory.
    """

    _spare: ClassVar[_Spare] = _Spare()

    def __enter__(self) -> "Arena":
        block, self._spare.block = self._spare.block, None
        self._block = torch.empty(0, dtype=torch.uint8, device="cpu") if block is None else block
        self._used = 0
        return self

    def __exit__(self, *error: object) -> None:
        if self._used > len(self._block):
            with torch.inference_mode(False):  # so that searches outside inference mode can write to it
                self._block = torch.empty(self._used, dtype=torch.uint8, device="cpu")
        self._spare.block = self._block

    def empty(self, like: Tensor, *shape: int) -> Tensor:
        """Return uninitialised memory of the given shape, with the dtype and device of `like`."""
        if like.device.type != "cpu":
            return like.new_empty(shape)
        size = math.prod(shape) * like.element_size()
        start, self._used = self._used, self._used + -(-size // 64) * 64
        if self._used > len(self._block):
            return like.new_empty(shape)
        return self._block[start : start + size].view(like.dtype).view(shape)


def plant(arena: Arena, root: Root, prior: Tensor, num_simulations: int) -> Tree:
    """Make trees that hold only their roots.

    Args:
        arena: the memory to use.
        root: the roots.
        prior: `[A, T]` the roots' prior, as `prior_of` returns it.
        num_simulations: the number of nodes to make room for, besides the root.
    """
    actions, trees = prior.shape
    size = (num_simulations + 1) * trees
    ids = torch.arange(size, device=prior.device)
    edges, nodes = arena.empty(prior, 3, actions, size), arena.empty(prior, 3, size)
    edges[:2] = 0
    edges[2, :, :trees] = prior
    nodes[0, :trees] = root.value
    nodes[1, :trees] = 0
    nodes[2, :trees] = 1  # with reward 0: backing up "into a root" changes no return, so roots can pad short paths
    ended = arena.empty(root.legal, size)
    ended[:trees] = False
    child, pointers = arena.empty(ids, actions, size), arena.empty(ids, 4, size)
    child[:] = ids
    pointers[:] = ids
    # the padding of paths is counted at edges of the last generation, which the search never reads
    pointers[1, :trees] += num_simulations * trees

    def store(x: Tensor) -> Tensor:
        buffer = arena.empty(x, max(num_simulations, 1) * trees, *x.shape[1:])
        buffer[:trees] = x
        return buffer

    parent, into, chosen, follow = pointers.unbind(0)
    state = map_state(store, root.state)
    return Tree(edges, nodes, child.view(-1), parent, into, chosen, follow, ended, state, ids[:trees])


def choose_at(tree: Tree, passed: Tensor, choose: Choose, simulation: int) -> None:
    """Update the pointers of the nodes `passed` `[D, T]`, the roots last, for the next simulation."""
    trees, nodes = len(tree.roots), passed.view(-1)
    # roots pad short paths: removing them pays off for many trees, but would make a GPU wait
    padded = passed.device.type != "cpu" or passed.numel() < 1024
    if not padded:
        inner = nodes[:-trees]
        nodes = torch.cat([inner.masked_select(inner >= trees), tree.roots])
    edge = choose(tree, nodes, simulation).mul_(len(tree.parent)).add_(nodes)
    child = tree.child.index_select(0, edge)
    tree.chosen.index_copy_(0, nodes, edge)
    tree.follow.index_copy_(0, nodes, child)
    if padded:  # roots in the padding were treated as inner nodes: only the last entry of a root is right
        tree.chosen[:trees] = edge[-trees:]
        tree.follow[:trees] = child[-trees:]


def descend(tree: Tree, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Follow the chosen edges from the roots, for at most `depth` edges including the last.

    Returns:
        The nodes to expand, int64 `[T]`; the edge to try at each, int64 `[T]`; and the node where the descent ended,
        int64 `[T]`: the node to expand itself, or the end of a branch that the edge is known to lead to.
    """
    stop = tree.roots
    for _ in range(depth):
        stop = tree.follow.index_select(0, stop)
    parent = torch.where(tree.ended.index_select(0, stop), tree.parent.index_select(0, stop), stop)
    return parent, tree.chosen.index_select(0, parent), stop


def write(buffer: Tensor, rows: slice | Tensor, values: Tensor) -> None:
    """Write `values` to the rows of a buffer."""
    if isinstance(rows, slice):
        buffer[rows].copy_(values)
    else:
        buffer.index_copy_(0, rows, values)


def expand(
    tree: Tree, new: slice | Tensor, at: tuple[Tensor, Tensor, Tensor], output: ModelOutput, prior: Tensor
) -> Tensor:
    """Write a generation: the model's output for the edges that `descend` returned.

    If an edge leads to the known end of a branch, its tree stays as it was, and the new slot is not used.

    Args:
        tree: the trees.
        new: the slots of this generation: rows, or int64 `[T]`.
        at: the result of `descend`.
        output: the model's output.
        prior: `[A, T]` its prior, as `prior_of` returns it.

    Returns:
        int64 `[T]` the leaf of each tree in this simulation.
    """
    parent, edge, stop = at
    size = len(tree.parent)
    slot = tree.roots + new.start if isinstance(new, slice) else new
    highest, best = best_of(prior)  # without visits, both rules choose the highest prior
    over = output.discount == 0
    tree.edges[2, :, new] = prior
    tree.nodes[0, new] = output.value.masked_fill(over, 0)
    tree.nodes[1, new] = output.reward
    tree.nodes[2, new] = output.discount
    tree.parent[new] = parent
    tree.into[new] = edge
    tree.chosen[new] = best * size + slot
    tree.ended[new] = over | (highest == -torch.inf)
    leaf = torch.where(stop == parent, slot, stop)
    tree.child.index_copy_(0, edge, leaf)
    return leaf


def climb(tree: Tree, leaf: Tensor, depth: int) -> Tensor:
    """List the nodes from the leaves up to the roots, int64 `[depth + 1, T]`. Roots pad short paths."""
    path = [leaf]
    for _ in range(depth):
        path.append(tree.parent.index_select(0, path[-1]))
    return torch.stack(path)


def backup(tree: Tree, path: Tensor) -> None:
    """Add one discounted return to each edge of the paths `[depth + 1, T]`.

    The return of an edge is `G = reward + discount * G'`. G' is the return of the next edge; at the last edge it is
    the leaf's value.
    """
    below = path[:-1]
    value, returns, discount = tree.nodes.index_select(1, below.reshape(-1)).view(3, *below.shape).unbind(0)
    carried = value[0]
    for reward, factor in zip(returns.unbind(0), discount.unbind(0), strict=True):
        carried = reward.addcmul_(factor, carried)
    edge = tree.into.index_select(0, below.reshape(-1))
    tree.visits.view(-1).index_add_(0, edge, torch.ones_like(edge, dtype=returns.dtype))
    tree.total.view(-1).index_add_(0, edge, returns.view(-1))


def snapshot(tree: Tree) -> Tree:
    """Copy trees out of the memory of their search, for a caller to keep.

    The last generation's statistics are set to 0: its nodes were never expanded, and paddings of paths are counted
    there.
    """
    copy: Tree = map_state(torch.clone, tree)
    copy.edges[:2, :, len(tree.parent) - len(tree.roots) :] = 0
    return copy
