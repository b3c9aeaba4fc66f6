"""The peer's side of benchmarks/planner.py: google-deepmind/mctx on the same toy model.

Set up once, outside the project:  python -m venv peer && peer/bin/pip install mctx
Then:  python benchmarks/planner.py --peer-python peer/bin/python
Prints one line when compiled; after that, each number on standard input starts so many searches, answered by the
mean of their seconds.
"""

import argparse
import sys
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp
import mctx

A, D, HIDDEN = 7, 256, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=1024)
    parser.add_argument("--simulations", type=int, default=32)
    parser.add_argument("--rule", choices=["puct", "gumbel"], default="puct")
    args = parser.parse_args()

    k1, k2, k3, k4 = jax.random.split(jax.random.PRNGKey(0), 4)
    w1 = jax.random.normal(k1, (D, HIDDEN)) * 0.05
    w2 = jax.random.normal(k2, (HIDDEN, HIDDEN)) * 0.05
    w3 = jax.random.normal(k3, (HIDDEN, A + 1)) * 0.05

    def net(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = jax.nn.relu(jax.nn.relu(x @ w1) @ w2) @ w3
        return out[:, :A], jnp.tanh(out[:, A])

    def recurrent(
        params: None, key: jax.Array, action: jax.Array, x: jax.Array
    ) -> tuple[mctx.RecurrentFnOutput, jax.Array]:
        x = jnp.roll(x, 1, axis=1) + 0.01 * action[:, None]
        logits, value = net(x)
        discount = jnp.full(value.shape, 0.95)
        return mctx.RecurrentFnOutput(reward=0.01 * x[:, 0], discount=discount, prior_logits=logits, value=value), x

    policy = mctx.gumbel_muzero_policy if args.rule == "gumbel" else mctx.muzero_policy

    @jax.jit
    def run(key: jax.Array, x: jax.Array) -> jax.Array:
        logits, value = net(x)
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=x)
        return policy(None, key, root, recurrent, num_simulations=args.simulations).action

    x = jax.random.normal(k4, (args.trees, D))
    run(jax.random.PRNGKey(0), x).block_until_ready()
    print(f"mctx {version('mctx')}, jax {version('jax')}", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for i in range(int(line)):
            run(jax.random.PRNGKey(i), x).block_until_ready()
        print((time.perf_counter() - start) / int(line), flush=True)


if __name__ == "__main__":
    main()
