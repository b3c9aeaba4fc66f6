"""The search: all trees advance together, and each simulation calls the model once for the whole batch."""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from omg_lightning import interrupts
from omg_lightning.search.policy import (
    TIE_NOISE,
    SearchConfig,
    SearchResult,
    gumbel_rule,
    prior_of,
    puct_rule,
    summarise,
)
from omg_lightning.search.replay import Replay, can_replay
from omg_lightning.search.tree import (
    Arena,
    Choose,
    ModelFn,
    ModelOutput,
    Root,
    Tree,
    backup,
    choose_at,
    climb,
    descend,
    expand,
    map_state,
    plant,
    snapshot,
    write,
)
from omg_lightning.types import ConfigError


@overload
def search(
    root: Root,
    model_fn: ModelFn,
    config: SearchConfig,
    generator: torch.Generator | None = None,
    return_tree: Literal[False] = False,
) -> SearchResult: ...


@overload
def search(
    root: Root,
    model_fn: ModelFn,
    config: SearchConfig,
    generator: torch.Generator | None = None,
    *,
    return_tree: Literal[True],
) -> tuple[SearchResult, Tree]: ...


@torch.no_grad()
def search(
    root: Root,
    model_fn: ModelFn,
    config: SearchConfig,
    generator: torch.Generator | None = None,
    return_tree: bool = False,
) -> SearchResult | tuple[SearchResult, Tree]:
    """Search T trees at once.

    A pure function: it does not change its inputs, and all its randomness is drawn from `generator`. Rows do not
    influence each other. A branch ends where the discount is 0: the model's output beyond it is ignored, and another
    visit backs up the same reward again. A node without a legal action is evaluated but never expanded. PyTorch's
    inference mode makes the search a little faster.

    Args:
        root: the roots. Rows without a legal action are searched, but their result is 0.
        model_fn: `(state, actions [T]) -> (ModelOutput, state)`, called once per simulation, always with all T rows
            in order. Its output for row t may depend on row t only.
        config: budget and selection rule.
        generator: on any device. Only used for Gumbel noise (`rule="gumbel"` with `gumbel_scale` above
            0) and for `random_ties`.
        return_tree: also return a copy of the trees, for viewers and tests.

    Returns:
        The statistics of the roots; with `return_tree`, a pair of them and the trees.

    Raises:
        ConfigError: the shapes of `root` or of the model's first output do not fit, or the generator is missing.
    """
    _check_root(root)
    simulations = config.num_simulations if len(root.legal) else 0
    alive = root.legal.any(-1)
    legal = root.legal | ~alive[:, None]  # rows without a legal action: searched, but their result is discarded
    dtype = torch.promote_types(root.value.dtype, torch.float32)  # bfloat16 cannot count beyond 256
    noise = _noise(root, config, generator, dtype)
    ties = _ties(root, config, generator, dtype)
    choose = gumbel_rule(config, legal, noise) if config.rule == "gumbel" else puct_rule(config)
    with Arena() as arena:
        tree = plant(arena, root, prior_of(config, root.prior_logits.to(dtype), legal, ties), simulations)
        if simulations:
            _simulate(root, model_fn, config, tree, choose, ties, generator)
        result = summarise(config, tree, noise, alive)
        return (result, snapshot(tree)) if return_tree else result


def _simulate(
    root: Root,
    model_fn: ModelFn,
    config: SearchConfig,
    tree: Tree,
    choose: Choose,
    ties: Tensor | None,
    generator: torch.Generator | None,
) -> None:
    simulations, trees = config.num_simulations, len(tree.roots)
    look_every = 1 if tree.roots.device.type == "cpu" else 8  # a GPU must wait whenever the true depth is read
    deepest = tree.roots.new_zeros(())

    def simulation(step: int, depth: int, new: slice | Tensor) -> None:
        """Simulate once. No node is deeper than `depth`; the new nodes are in the slots `new`."""
        at = parent, edge, _ = descend(tree, depth)
        before = map_state(lambda x: x.index_select(0, parent), tree.state)
        output, state = model_fn(before, edge // len(tree.parent))
        if step == 1:
            _check_output(root, output, state)
        if config.discount != 1:
            output = output._replace(discount=output.discount * config.discount)
        prior = prior_of(config, output.prior_logits.to(tree.edges.dtype), output.legal, ties)
        leaf = expand(tree, new, at, output, prior)
        path = climb(tree, leaf, depth + 1)
        backup(tree, path)
        if step == simulations:
            return
        map_state(lambda buffer, x: write(buffer, new, x), tree.state, state)
        choose_at(tree, path[1:], choose, step)
        deepest.copy_(torch.maximum(deepest, (path.amax(1) >= trees).sum()))

    def replayed() -> None:
        slot.add_(trees)
        simulation(0, limit, slot)

    choose_at(tree, tree.roots[None], choose, 0)
    depth = 0  # no node is deeper than this
    graph: Replay | None = None
    slot, limit = tree.roots, 0  # of the graph: where it wrote last, and how deep it can reach
    for step in range(1, simulations + 1):
        interrupts.check()
        # the first simulation initialises libraries, and there is no room for the states of the last one
        if not (config.cuda_graph and can_replay(tree.roots)) or step in (1, simulations):
            simulation(step, depth, slice(step * trees, (step + 1) * trees))
            if step < simulations:
                depth = int(deepest) if step % look_every == 0 else depth + 1
            continue
        if graph is None or depth > limit:
            depth = int(deepest)
            if graph is None or depth + 2 > limit:
                slot, limit = tree.roots + (step - 1) * trees, depth + look_every
                graph = Replay(replayed, generator)
        graph()
        depth += 1


def _noise(root: Root, config: SearchConfig, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor:
    """Return Gumbel noise `[A, T]`, times its scale; zeros, without drawing, if the rule or the scale has none."""
    noise = torch.zeros(root.legal.t().shape, dtype=dtype, device=root.legal.device)
    if config.rule != "gumbel" or config.gumbel_scale == 0:
        return noise
    if generator is None:
        raise ConfigError(
            "search got generator=None; rule='gumbel' expects a torch.Generator: pass one, or gumbel_scale=0."
        )
    drawn = torch.empty(root.legal.shape, dtype=dtype, device=generator.device).exponential_(generator=generator)
    return drawn.clamp_min_(torch.finfo(dtype).tiny).log_().t().to(noise.device) * -config.gumbel_scale


def _ties(root: Root, config: SearchConfig, generator: torch.Generator | None, dtype: torch.dtype) -> Tensor | None:
    """Return the noise that `random_ties` adds to the prior logits of all nodes of a tree, `[T, A]`, or None."""
    if not config.random_ties:
        return None
    if generator is None:
        raise ConfigError(
            "search got generator=None; random_ties=True expects a torch.Generator: pass one, or random_ties=False."
        )
    drawn = torch.rand(root.legal.shape, dtype=dtype, device=generator.device, generator=generator)
    return drawn.to(root.legal.device) * TIE_NOISE


def _check_root(root: Root) -> None:
    if root.prior_logits.ndim != 2 or not root.prior_logits.is_floating_point():
        got = f"{root.prior_logits.dtype} {list(root.prior_logits.shape)}"
        raise ConfigError(f"Root.prior_logits is {got}; expected floating point [T, A]: one row per tree.")
    trees, actions = root.prior_logits.shape
    _check_shapes("Root", root, {"value": (trees,), "legal": (trees, actions)})
    if not root.value.is_floating_point():
        raise ConfigError(f"Root.value is {root.value.dtype}; expected floating point: cast it with .float().")
    map_state(lambda x: _check_leaf(x, trees), root.state)


def _check_leaf(x: Tensor, trees: int) -> None:
    if x.shape[:1] != (trees,):
        raise ConfigError(
            f"A tensor of Root.state has shape {list(x.shape)}; expected [{trees}, ...]: repeat it per tree."
        )


def _check_output(root: Root, output: ModelOutput, state: Any) -> None:
    trees, actions = root.prior_logits.shape
    expected = dict.fromkeys(("value", "reward", "discount"), (trees,))
    _check_shapes("ModelOutput", output, expected | dict.fromkeys(("prior_logits", "legal"), (trees, actions)))
    before, after = _signature(root.state), _signature(state)
    if before != after:
        raise ConfigError(
            f"model_fn returned a state of {after}; expected that of Root.state, {before}: keep shapes and dtypes."
        )


def _check_shapes(name: str, record: Root | ModelOutput, expected: dict[str, tuple[int, ...]]) -> None:
    for field, shape in expected.items():
        x = getattr(record, field)
        if x.shape != shape:
            raise ConfigError(f"{name}.{field} has shape {list(x.shape)}; expected {list(shape)}: one row per tree.")
    if record.legal.dtype != torch.bool:
        raise ConfigError(f"{name}.legal is {record.legal.dtype}; expected torch.bool, True = allowed: use .bool().")


def _signature(state: Any) -> list[str]:
    """Return the shape and dtype of every tensor of a state, in order."""
    found: list[str] = []
    map_state(lambda x: found.append(f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"), state)
    return found
