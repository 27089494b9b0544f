"""Every jitted program of the solver also lowers for CUDA and for TPU, without having either."""

import jax
import jax.numpy as jnp
import pytest

from jaxle.explainers import rank, search
from jaxle.solve import (
    accumulate,
    auroc,
    elastic_net,
    exchange,
    forward,
    least_squares,
    logic,
    moments,
    ridge,
    spectrum,
    wording,
)


@pytest.fixture(scope="module")
def programs(problems):
    """name → (jitted function, arguments)."""
    x, y = (jnp.asarray(part) for part in problems.similar())
    m = moments.second_moments(x, y)
    shift, count = (m.mean_x, m.mean_y), jnp.int32(900)
    tile = accumulate.zeros(30, 7)
    size, penalties = moments.scales(m), (jnp.full(30, 0.05), jnp.full(30, 5e-4), jnp.ones(7))
    problem = elastic_net._standardise(m, size, *penalties)
    start = elastic_net._start(m.cross, size, True, 7)
    ids = jnp.arange(128, dtype=jnp.int32)
    by_rows, by_product = elastic_net._empty(128, 1024, 48), elastic_net._empty(128, 128, 48)
    wide, narrow = ((jnp.eye(n), jnp.ones(n), jnp.ones(n)) for n in (1024, 128))
    slots, tol = by_product, jnp.float32(1e-6)
    order, neurons = jnp.zeros((7, 20), jnp.int32), jnp.arange(7, dtype=jnp.int32)
    greedy = (m, m, order, neurons, jnp.int32(5), jnp.float32(0.02), None)
    sums = jnp.zeros((5, 7), jnp.float32)
    words, price = jnp.ones(30, jnp.int32), jnp.float32(0.02)
    no = jnp.zeros((7, 3, 3), bool)
    formulas = auroc.Formulas(no.astype(jnp.int32), no, no, jnp.ones((7, 3), jnp.int32))
    two = jnp.zeros((30, 2), jnp.int32)
    program = logic.Program(two, *[two[:, :1]] * 4, jnp.zeros(30, bool))
    wider = jnp.zeros((7, 3, 30))
    beam = auroc.Beam(formulas, *[wider[:, :, 0]] * 3)
    alike = (m.gram, wording.Common.of(m), jnp.float32(900), m.cross.T, order[:, :5])
    smooth = m.cross, m.gram, m.mean_x, jnp.float32(0.1)
    grid = jnp.ones(4), jnp.ones(4)
    return {
        "tile mean": (moments._tile_mean, (x, y, count)),
        "sums of columns": (accumulate._add_columns(None), (tile[:-1], shift, x.T, y.T, count)),
        "sums": (accumulate._add_tile(None), (tile, shift, x.T, y.T, count)),
        "rows of blocks": (accumulate._add_rows(None), (tile.triangle, [x.T])),
        "centre": (accumulate.centre, (tile, shift, jnp.float32(900))),
        "merge, targets": (
            moments._merge_targets,
            (*[(m.mean_x, m.mean_y, m.cross, m.var_y)] * 2, jnp.float32(0.5), jnp.float32(0.5)),
        ),
        "merge": (moments._merge, (m[1:], m[1:], jnp.float32(0.5), jnp.float32(0.5))),
        "scales": (moments._scales, (m,)),
        "some neurons": (jax.jit(lambda m: moments._some(m, 0, 3)), (m,)),
        "prediction mean": (moments._prediction_mean, (x, y, m.cross, m.mean_y, count)),
        "prediction sums": (
            moments._add_prediction,
            (sums, (m.mean_y, m.mean_y), x, y, m.cross, m.mean_y, count),
        ),
        "correlation": (moments._correlation, (sums, jnp.float32(900))),
        "standardise": (elastic_net._standardise, (m, size, *penalties)),
        "largest penalty": (
            jax.jit(lambda m: elastic_net._lam_max(m, jnp.float32(0.99), True)),
            (m,),
        ),
        "start": (jax.jit(lambda w, s: elastic_net._start(w, s, True, 7)), (m.cross, size)),
        "fill": (elastic_net._refill(None, False), (problem, None, slots, ids, ids > 3)),
        "fill, warm": (elastic_net._refill(None, True), (problem, start, slots, ids, ids > 3)),
        "round by rows": (elastic_net._round(None), (*wide, by_rows, tol)),
        "round by product": (elastic_net._round(None), (*narrow, by_product, tol)),
        "save": (elastic_net._store(None), (jnp.zeros((7, 128)), jnp.zeros((7, 128)), ids, slots)),
        "order": (jax.jit(lambda w, g: rank.order(w, g, 20, 28)), (m.cross.T, m.cross.T)),
        "greedy": (search._program(None, True, 5, False), greedy),
        "greedy, above noise": (
            search._program(None, True, 5, True),
            (*greedy, jnp.full((5, 2), 3.0), jnp.float32(90), jnp.ones(7)),
        ),
        "top k": (search._program(None, False, 5, False), greedy),
        "gather": (least_squares._gather, (m, m, order, neurons)),
        "forward": (forward._program(None, 5), (m.gram, m.cross.T)),
        "forward, formulas": (forward._program(None, 5), (m.gram, m.cross.T, words, price, count)),
        "correlations": (moments._correlations, (m.gram, m.mean_x)),
        "forward, its rows": (
            jax.jit(lambda m: forward._transposed(m.cross, m.mean_y, 0, 4)),
            (m,),
        ),
        "forward, rows of a block": (forward._rows, (m.cross.T, m.mean_x, m.mean_y, neurons)),
        "forward, what folds are judged by": (forward._gather, (m, order, neurons)),
        "exchange": (exchange._program(None), (m.gram, m.cross.T, order[:, :5])),
        "exchange, formulas": (
            exchange._program(None),
            (m.gram, m.cross.T, order[:, :5], words),
        ),
        "wording, formulas": (wording._program(None, wording._reword), (*alike, words)),
        "formulas": (jax.jit(lambda p, t: logic._run(p, t, True)), (program, x)),
        "formulas of any form": (jax.jit(lambda p, t: logic._run(p, t, False)), (program, x)),
        "ranks": (auroc._doubled_ranks, (y, count)),
        "rank sums": (auroc._add_sums, (wider, wider, formulas, y, x, count)),
        "AUROC": (auroc._add_scores, (sums[:3].T, sums[:3].T, formulas, y, x, count)),
        "beam, first": (auroc._first, (beam, wider[:, 0], wider[0, 0], price, penalties[0][:2])),
        "beam, longer": (
            auroc._longer,
            (beam, wider[:, 0], wider[0, 0], (wider, wider), price, penalties[0][:2]),
        ),
        "wording": (wording._program(None, wording._reword), alike),
        "equivalents": (wording._program(None, wording._equivalents), alike),
        "teacher": (ridge._program(None), (*smooth, None, *grid)),
        "teacher, many concepts": (ridge._program(None), (*smooth, m.gram, *grid)),
        "teacher of a fold": (ridge._smooth_program(None), (*smooth, m.mean_y)),
        "teacher, its columns": (
            jax.jit(lambda m, s: ridge._standardised(m, s, 8)),
            (m, m.mean_x),
        ),
        "teacher, raw": (ridge._raw, (m.cross.T, m.mean_y, m)),
        "spectrum, a product": (spectrum._times, (m.gram, m.cross)),
        "ridge, its start": (ridge._start, (m,)),
        "ridge, its bias": (ridge._bias, (m.mean_x, m.mean_y, m.cross)),
        "ridge": (
            ridge._improve,
            ((m.cross, m.mean_y, m.mean_y), m.gram, m.cross, size, m, jnp.float32(1)),
        ),
    }


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_every_program_lowers_for(programs, platform):
    for name, (program, arguments) in programs.items():
        lowered = program.trace(*arguments).lower(lowering_platforms=(platform,))
        assert "func.func public @main" in lowered.as_text(), name


def test_no_product_of_the_solver_may_use_tf32(programs):
    for name, (program, arguments) in programs.items():
        for line in (
            program.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text().splitlines()
        ):
            if "stablehlo.dot_general" in line:
                assert "precision = [HIGHEST, HIGHEST]" in line, f"{name}: {line}"
