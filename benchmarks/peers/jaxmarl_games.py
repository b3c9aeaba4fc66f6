"""The peer's side of benchmarks/games.py: JaxMARL's Overcooked (two cooks), jitted and vectorised over the batch.

Set up once, outside the project:  python -m venv peer && peer/bin/pip install jaxmarl
Then:  python benchmarks/games.py --peer-python peer/bin/python
Prints one line when compiled; after that, every line on standard input starts one timed run, answered in env steps/s.
"""

import argparse
import sys
import time
from importlib.metadata import version

import jax
import jaxmarl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=32)
    args = parser.parse_args()

    env = jaxmarl.make("overcooked")
    keys = jax.random.split(jax.random.PRNGKey(0), args.batch)
    _, start = jax.jit(jax.vmap(env.reset))(keys)
    choices = env.action_space(env.agents[0]).n

    @jax.jit
    def run(key: jax.Array, state: object) -> object:
        def step(state: object, key: jax.Array) -> tuple[object, None]:
            first, *others = jax.random.split(key, 1 + len(env.agents))
            actions = {
                agent: jax.random.randint(k, (args.batch,), 0, choices)
                for agent, k in zip(env.agents, others, strict=True)
            }
            # the rules alone: without the automatic reset of `step`, as ours
            _, state, _, _, _ = jax.vmap(env.step_env)(jax.random.split(first, args.batch), state, actions)
            return state, None

        return jax.lax.scan(step, state, jax.random.split(key, args.steps))[0]

    jax.block_until_ready(run(jax.random.PRNGKey(0), start))
    print(f"jaxmarl {version('jaxmarl')} overcooked, jax {version('jax')}", flush=True)
    for i, _ in enumerate(sys.stdin):
        begin = time.perf_counter()
        jax.block_until_ready(run(jax.random.PRNGKey(i), start))
        print(args.batch * args.steps / (time.perf_counter() - begin), flush=True)


if __name__ == "__main__":
    main()
