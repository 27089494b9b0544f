"""What is computed of a value is what is read of it: the same numbers, and no more products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from jaxle.models.windows import narrowed


def narrow(function, *args):
    """`function` narrowed for arguments like these."""
    closed = jax.make_jaxpr(function)(*args)
    jaxpr = closed.jaxpr

    def whole(eqn):
        read = [v for v in eqn.invars if isinstance(v, core.Var)]
        places = {v: eqn.invars.index(v) for v in read}
        part = jaxpr.replace(invars=list(places), outvars=eqn.outvars, eqns=[eqn], constvars=[])
        run = core.jaxpr_as_fun(core.ClosedJaxpr(part, ()))
        return lambda *operands: run(*(operands[i] for i in places.values()))

    run = narrowed([*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars, jaxpr.eqns, whole)
    return lambda *args: run(*closed.consts, *args)[0]


def flops(function, *args):
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


N, T, D = 3, 40, 16  # images, tokens, values
X = jax.random.normal(jax.random.key(0), (N, T, D))
W = jax.random.normal(jax.random.key(1), (D, D))
HEADS = W.reshape(D, 2, D // 2)


def norm(x):
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)


def attention(x):
    q, k, v = (jnp.einsum("ntd,dhe->nthe", x, HEADS) for _ in range(3))
    mixed = jnp.einsum("nhqk,nkhe->nqhe", jax.nn.softmax(jnp.einsum("nqhe,nkhe->nhqk", q, k)), v)
    return x + mixed.reshape(x.shape)


# program, and the share of the products that its output needs
PROGRAMS = {
    "dense and a norm, one token": (lambda x: norm(jnp.tanh(x @ W + 1) @ W)[:, 0], 1 / T),
    "a function compiled by itself": (lambda x: jax.nn.gelu(x @ W)[:, 3] @ W, 1 / T),
    "some tokens, some values": (lambda x: (x @ W)[:, 2:7, 4:8].sum(), 5 / T / 4),
    "two windows of one value": (lambda x: (y := x @ W)[:, 0] + y[:, 3], 4 / T),
    "heads apart and together": (
        lambda x: (x @ W).reshape(N, T, 2, 8).swapaxes(1, 2).reshape(N, 2, T * 8)[..., 8:24].sum(),
        1.0,
    ),
    "heads of one token": (lambda x: (x @ W).reshape(N, T, 2, 8).swapaxes(1, 2)[:, :, 5], 1 / T),
    "side by side": (lambda x: jnp.concatenate([x @ W, 2 * x, x @ W], 1)[:, T + 1], 0.0),
    "across the seam": (lambda x: jnp.concatenate([x @ W, x @ W], 1)[:, T - 2 : T + 2], 2 / T),
    "no rule": (lambda x: jnp.cumsum(x @ W, axis=1)[:, 1], 1.0),
    "every second": (lambda x: (x @ W)[:, ::2], 1.0),
    "one of several results": (lambda x: jnp.split(x @ W, 2, axis=-1)[1][:, 0], 1.0),
    "all of it": (lambda x: x @ W, 1.0),
    "twice": (lambda x: jnp.stack([x[:, 0] @ W, x[:, 0]]), 1 / T),
    "an argument alone": (lambda x: x[:, 0], 0.0),
    "a constant": (lambda x: x[:, 0] + np.arange(D, dtype=np.float32)[None], 0.0),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_numbers_are_the_same_and_the_products_are_those_that_are_read(name):
    function, share = PROGRAMS[name]
    found = narrow(function, X)
    np.testing.assert_allclose(jax.jit(found)(X), jax.jit(function)(X), rtol=2e-5, atol=1e-5)
    run = jax.make_jaxpr(found)(X)
    dots = [eqn for eqn in run.jaxpr.eqns if eqn.primitive.name == "dot_general"]
    products = sum(eqn.outvars[0].aval.size for eqn in dots[:1])
    assert products == pytest.approx(share * N * T * D), products


def test_one_token_of_attention_needs_all_keys_and_values_and_one_query():
    """Queries, scores and mixtures of one token: 2 of 3 projections, and 1/T of the rest."""
    first = lambda x: attention(x)[:, 0]  # noqa: E731
    found = narrow(first, X)
    np.testing.assert_allclose(jax.jit(found)(X), jax.jit(first)(X), rtol=2e-5, atol=1e-5)
    projections = 2 * N * (2 * T + 1) * D * D + 4 * N * T * D
    assert flops(found, X) < 1.1 * projections < flops(first, X)


def test_gradients_pass_through():
    function = lambda x: jnp.sum(jnp.sin(norm(jax.nn.gelu(x @ W))[:, 0]))  # noqa: E731
    got, expected = (jax.jit(jax.grad(f))(X) for f in (lambda x: narrow(function, X)(x), function))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert not np.asarray(got)[:, 1:].any()
