"""A batch of search trees as flat tensors, and the moves on it: descend, expand, climb, back up.

Every tree gains one slot per simulation, and slot s of tree t is row `s * T + t` ("node id") everywhere: a new
generation of nodes is one contiguous slice, and the roots are rows 0..T-1. M is the number of rows,
`(num_simulations + 1) * T`. Statistics of edges are stored action-major, because reducing over the leading dimension
is several times faster than over a trailing one of 5 or 7; an "edge id" is `action * M + node id`.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor


class Root(NamedTuple):
    """Where T searches start."""

    prior_logits: Tensor  # [T, A]
    value: Tensor  # [T] the network's value
    legal: Tensor  # bool [T, A]
    state: Any  # what `model_fn` takes: a tensor, or a (nested) NamedTuple of tensors, with leading T


class ModelOutput(NamedTuple):
    """What the model says of one transition in each of T trees."""

    prior_logits: Tensor  # [T, A] at the next state
    value: Tensor  # [T] of the next state; ignored where `discount` is 0
    reward: Tensor  # [T] of the transition
    discount: Tensor  # [T] in [0, 1]; 0 ends the branch
    legal: Tensor  # bool [T, A] at the next state


ModelFn = Callable[[Any, Tensor], tuple[ModelOutput, Any]]


class Tree(NamedTuple):
    """T trees, written in place. A node's reward, discount and `into` belong to the edge that leads to it."""

    edges: Tensor  # [3, A, M] visits N(s, a); total W(s, a) of returns; prior as the rule keeps it, -inf if illegal
    nodes: Tensor  # [3, M] the network's value (0 past an end), reward, discount
    child: Tensor  # int64 [A * M] the node an edge leads to; where there is none yet, the edge's own node
    parent: Tensor  # int64 [M] a root is its own parent
    into: Tensor  # int64 [M] edge id
    chosen: Tensor  # int64 [M] id of the edge that the rule chooses here, always up to date
    follow: Tensor  # int64 [M] `child` of that edge: to descend is to follow this pointer until it stays
    ended: Tensor  # bool [M] nothing follows: the discount is 0, or no action is legal
    state: Any  # [num_simulations * T, ...] the last generation is never expanded, so never stored
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
    """Applies `fn` to the tensors at the same place of one or more states: tensors or (nested) tuples of them."""
    first = states[0]
    if isinstance(first, Tensor):
        return fn(*states)
    parts = [map_state(fn, *parts) for parts in zip(*states, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def best_of(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The highest of `scores` `[A, L]` and its action, the first of equals; any valid action if a score is NaN."""
    if scores.device.type != "cpu" or scores.shape[1] < 768:
        return scores.max(0)  # `argmax` is ten times slower on a CPU
    # the same in more operations, each of which a CPU does on many numbers at once: the faster, the more there are
    highest = scores.amax(0)
    below = (scores - highest).sign_()  # 0 at the highest, -1 elsewhere
    actions = torch.arange(len(scores), dtype=scores.dtype, device=scores.device)
    return highest, torch.sub(actions[:, None], below, alpha=len(scores)).amin(0).long()


class Arena:
    """Memory that one search after another uses: touching fresh pages costs more than all copies into them.

    A search takes the spare block for itself, so nested searches and threads never share one, and puts back a block
    that is large enough for the next search like it. Only for the CPU: on a GPU, PyTorch keeps freed memory itself.
    """

    _spare: ClassVar[list[Tensor]] = []

    def __enter__(self) -> "Arena":
        self._block = self._spare.pop() if self._spare else torch.empty(0, dtype=torch.uint8, device="cpu")
        self._used = 0
        return self

    def __exit__(self, *error: object) -> None:
        if self._used > len(self._block):
            with torch.inference_mode(False):  # or a search outside of inference mode could not write to it
                self._block = torch.empty(self._used, dtype=torch.uint8, device="cpu")
        self._spare[:] = [self._block]

    def empty(self, like: Tensor, *shape: int) -> Tensor:
        """Uninitialised memory of a shape; dtype and device are those of `like`."""
        if like.device.type != "cpu":
            return like.new_empty(shape)
        size = math.prod(shape) * like.element_size()
        start, self._used = self._used, self._used + -(-size // 64) * 64
        if self._used > len(self._block):
            return like.new_empty(shape)
        return self._block[start : start + size].view(like.dtype).view(shape)


def plant(arena: Arena, root: Root, prior: Tensor, num_simulations: int) -> Tree:
    """Makes trees that hold nothing but their roots.

    Args:
        arena: where to take memory from.
        root: where to start.
        prior: `[A, T]` the roots' prior in the form the rule keeps it.
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
    nodes[2, :trees] = 1  # with reward 0: backing up "into a root" changes no return, so roots pad short paths
    ended = arena.empty(root.legal, size)
    ended[:trees] = False
    child, pointers = arena.empty(ids, actions, size), arena.empty(ids, 4, size)
    child[:] = ids
    pointers[:] = ids
    # what pads a path is counted at the edges of the last generation, which nobody reads
    pointers[1, :trees] += num_simulations * trees

    def store(x: Tensor) -> Tensor:
        buffer = arena.empty(x, max(num_simulations, 1) * trees, *x.shape[1:])
        buffer[:trees] = x
        return buffer

    parent, into, chosen, follow = pointers.unbind(0)
    state = map_state(store, root.state)
    return Tree(edges, nodes, child.view(-1), parent, into, chosen, follow, ended, state, ids[:trees])


def choose_at(tree: Tree, passed: Tensor, choose: Choose, simulation: int) -> None:
    """Brings the pointers of the nodes `passed` `[D, T]`, the roots last, up to date for the next simulation."""
    trees, nodes = len(tree.roots), passed.view(-1)
    # short paths name the root again and again: worth sorting out where there are many, but a GPU would wait for it
    padded = passed.device.type != "cpu" or passed.numel() < 1024
    if not padded:
        inner = nodes[:-trees]
        nodes = torch.cat([inner.masked_select(inner >= trees), tree.roots])
    edge = choose(tree, nodes, simulation).mul_(len(tree.parent)).add_(nodes)
    child = tree.child.index_select(0, edge)
    tree.chosen.index_copy_(0, nodes, edge)
    tree.follow.index_copy_(0, nodes, child)
    if padded:  # a root that is named again was treated as any node: the last entry is the one that counts
        tree.chosen[:trees] = edge[-trees:]
        tree.follow[:trees] = child[-trees:]


def descend(tree: Tree, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Follows the chosen edges from the roots, for at most `depth` edges including the last.

    Returns:
        The nodes to expand, int64 `[T]`; the edge of each to try, int64 `[T]`; and where the descent ended, int64
        `[T]`: at the same node, or at the end of a branch that this edge is known to lead to.
    """
    stop = tree.roots
    for _ in range(depth):
        stop = tree.follow.index_select(0, stop)
    parent = torch.where(tree.ended.index_select(0, stop), tree.parent.index_select(0, stop), stop)
    return parent, tree.chosen.index_select(0, parent), stop


def expand(tree: Tree, step: int, at: tuple[Tensor, Tensor, Tensor], output: ModelOutput, prior: Tensor) -> Tensor:
    """Writes generation `step`: what the model said of the edges where `descend` arrived.

    Where that was the end of a branch, the tree keeps what it had, and the new slot stays unused.

    Args:
        tree: the trees.
        step: number of this generation, from 1.
        at: what `descend` returned.
        output: the model's answer.
        prior: `[A, T]` its prior in the form the rule keeps it.

    Returns:
        int64 `[T]` the node that each tree evaluates in this simulation.
    """
    parent, edge, stop = at
    trees, size = len(tree.roots), len(tree.parent)
    new = slice(step * trees, (step + 1) * trees)
    slot = tree.roots + step * trees
    highest, best = best_of(prior)  # without visits, every rule's choice is the highest prior
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
    """Lists the nodes from the leaves up to the roots, which repeat: int64 `[depth + 1, T]`."""
    path = [leaf]
    for _ in range(depth):
        path.append(tree.parent.index_select(0, path[-1]))
    return torch.stack(path)


def backup(tree: Tree, path: Tensor) -> None:
    """Adds one return to each edge of the paths `[depth + 1, T]`.

    The return of an edge is `G = reward + discount * G'`, where G' is that of the next edge, and the leaf's value at
    the last.
    """
    below = path[:-1]
    value, returns, discount = tree.nodes.index_select(1, below.reshape(-1)).view(3, *below.shape).unbind(0)
    carried = value[0]
    for reward, factor in zip(returns.unbind(0), discount.unbind(0), strict=True):
        carried = reward.addcmul_(factor, carried)
    edge = tree.into.index_select(0, below.reshape(-1))
    tree.visits.view(-1).index_add_(0, edge, torch.ones_like(edge, dtype=returns.dtype))
    tree.total.view(-1).index_add_(0, edge, returns.view(-1))
