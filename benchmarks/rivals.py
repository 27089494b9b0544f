"""The other ways to the same explanations, beside which benchmarks/solver.py is timed.

Libraries put together, and the paper's own way.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import time
from typing import Any

import numpy as np
import threadpoolctl
from scipy.sparse import csr_array

LAM, L1_RATIO, TOL = 0.05 / 0.99, 0.99, 1e-6
L1, L2 = LAM * L1_RATIO, LAM * (1 - L1_RATIO)
LIMITS = {"n_candidates": 10, "max_concepts": 10, "min_gain": 0.02}
CORES = len(os.sched_getaffinity(0))


# --- libraries ---


def numpy_moments(features, targets, rows):
    """Standardised Gram and cross moments, float32: one symmetric product, one general."""
    x, y = features[rows], targets[rows]
    x -= x.mean(0)
    y -= y.mean(0)
    n, std_x, std_y = len(x), x.std(0), y.std(0)
    gram, cross = x.T @ x, x.T @ y
    gram /= n
    cross /= n
    return gram, cross, std_x, std_y


def scipy_moments(features, targets, rows):
    """The same of 0/1 columns, of which each row has few: SciPy's sparse products, which count."""
    x, y = csr_array(features[rows]), targets[rows]
    y -= y.mean(0)
    n, mean, std_y = len(y), np.asarray(x.mean(axis=0)), y.std(0)
    gram = (x.T @ x).toarray() / n - mean[:, None] * mean[None, :]
    cross = (x.T @ y) / n
    return gram.astype(np.float32), cross, np.sqrt(mean * (1 - mean)), std_y


def coordinate_descent(gram, cross, tol=TOL, max_iter=20_000):
    """scikit-learn's Gram coordinate descent for one standardised neuron."""
    _cd_fast: Any = importlib.import_module("sklearn.linear_model._cd_fast")
    w = np.zeros(len(gram), gram.dtype)
    one = np.ones(1, gram.dtype)
    arguments = (
        w,
        gram.dtype.type(L1),
        gram.dtype.type(L2),
        gram,
        cross,
        one,
        max_iter,
        tol,
        np.random.RandomState(0),
        False,
        False,
    )
    try:
        return _cd_fast.enet_coordinate_descent_gram(*arguments, False)[0]
    except TypeError:  # before scikit-learn 1.8: no screening argument
        return _cd_fast.enet_coordinate_descent_gram(*arguments)[0]


def all_coordinate_descents(gram, cross, n_threads):
    """For some neurons, each with one BLAS thread (the descent releases the interpreter's lock)."""
    columns = np.ascontiguousarray(cross.T)
    with (
        threadpoolctl.threadpool_limits(1),
        concurrent.futures.ThreadPoolExecutor(n_threads) as pool,
    ):
        return np.stack(list(pool.map(lambda column: coordinate_descent(gram, column), columns)), 1)


def numpy_search(train, val, order, n_candidates, max_concepts, min_gain):
    """method.md §5 for one neuron from its pool's moments (gram, cross, var_y), in float64.

    Returns its concepts, ρ, and whether two candidates or a threshold were within 1e-6.
    """
    (gram, cross), (val_gram, val_cross, val_var) = train, val
    place = {int(c): i for i, c in enumerate(order)}
    selected, rejected, best, close = [], set(), 0.0, False
    while len(selected) < max_concepts:
        candidates = [c for c in place if c not in selected and c not in rejected][:n_candidates]
        rho = []
        for c in candidates:
            s = [place[d] for d in (*selected, c)]
            block = gram[np.ix_(s, s)]
            try:
                w = np.linalg.solve(block, cross[s])
            except np.linalg.LinAlgError:
                rho.append(-np.inf)
                continue
            spread = w @ val_gram[np.ix_(s, s)] @ w * val_var
            rho.append(w @ val_cross[s] / np.sqrt(spread) if spread > 0 else 0.0)
        needed = best + min_gain if selected else 0.0
        top = sorted(rho)[::-1]
        close |= any(abs(r - needed) < 1e-6 for r in rho) or (
            len(top) > 1 and top[0] - top[1] < 1e-6
        )
        if not rho or top[0] < needed or top[0] <= 0:
            break
        if selected:
            rejected |= {c for c, r in zip(candidates, rho, strict=True) if r < best + min_gain}
        best = max(rho)
        selected.append(candidates[rho.index(best)])
    return selected, best, close


def pools_of(train, val, order, k):
    ix, one = np.ix_(order, order), order
    return (train.gram[ix], train.cross[one, k]), (val.gram[ix], val.cross[one, k], val.var_y[k])


def all_searches(pool, pools, orders):
    """For some neurons, in as many processes as cores; with the CPU seconds of all together."""
    done = pool.starmap(_one_search, zip(pools, orders, strict=True), chunksize=8)
    return [found for found, _ in done], sum(seconds for _, seconds in done)


def _one_search(pools, order):
    start, (train, val) = time.process_time(), pools
    found = numpy_search(train, val, order, **LIMITS)
    return found, time.process_time() - start


# --- the paper's way ---


def saga(x, y, epochs, batch=256):
    """Minibatch SAGA with a gradient table per example, as the paper's code.

    Returns weights (concepts, neurons) after some epochs.
    """
    n = len(x)
    w, b = np.zeros((x.shape[1], y.shape[1]), np.float32), np.zeros(y.shape[1], np.float32)
    table, mean = np.zeros_like(y), np.zeros_like(w)
    rng = np.random.default_rng(0)
    lipschitz = np.linalg.norm(x[:batch], 2) ** 2 / batch
    step = np.float32(1 / (3 * lipschitz))
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(n), -(-n // batch)):
            xb = x[rows]
            residual = xb @ w + b - y[rows]
            change = residual - table[rows]
            gradient = xb.T @ change
            direction = gradient / len(rows) + mean
            mean += gradient / n
            b -= step * (change.mean(0) + table.mean(0))
            table[rows] = residual
            w -= step * direction
            w = np.sign(w) * np.maximum(np.abs(w) - step * L1, 0) / (1 + step * L2)
    return w


def gap(gram, cross, w):
    """Relative duality gap of standardised weights, float64, per neuron."""
    h = cross - gram @ w - L2 * w
    s = np.minimum(1, L1 / np.abs(h).max(0))
    norm2 = L2 * (w**2).sum(0)
    residual = 1 - (w * cross).sum(0) - (w * h).sum(0) - norm2
    return 2 * (0.5 * (1 - s) ** 2 * (residual + norm2) + (L1 * np.abs(w) - s * w * h).sum(0))


def search_by_images(features, targets, train, val, order, k, steps=100, rate=0.3):
    """The paper's search: 100 Adam steps on the images for every candidate of one neuron.

    Returns how many fits it took.
    """
    y, y_val = targets[train, k], targets[val, k]
    y = (y - y.mean()) / y.std()
    pool = features[:, order]
    mean, std = pool[train].mean(0), pool[train].std(0)
    x, x_val = (pool[train] - mean) / std, (pool[val] - mean) / std
    selected, rejected, best, fits = [], set(), 0.0, 0
    while len(selected) < LIMITS["max_concepts"]:
        candidates = [c for c in range(len(order)) if c not in selected and c not in rejected][
            : LIMITS["n_candidates"]
        ]
        rho = []
        for c in candidates:
            xs, xv = np.ascontiguousarray(x[:, [*selected, c]]), x_val[:, [*selected, c]]
            w, m, v = (np.zeros(xs.shape[1], np.float32) for _ in range(3))
            for t in range(1, steps + 1):
                g = xs.T @ (xs @ w - y) / len(y)
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            rho.append(np.corrcoef(xv @ w, y_val)[0, 1])
            fits += 1
        needed = best + LIMITS["min_gain"] if selected else 0.0
        if not rho or max(rho) < needed or max(rho) <= 0:
            return fits
        rejected |= {c for c, r in zip(candidates, rho, strict=True) if selected and r < needed}
        best = max(rho)
        selected.append(candidates[rho.index(best)])
    return fits
