"""What a metric may look at: five neurons, one of them dead."""

import numpy as np
import pytest

from jaxle.evaluation import Evidence


@pytest.fixture
def evidence():
    """Makes `Evidence`; options replace its fields, `n_val` is the number of val images."""

    def make(n_val=60, **options) -> Evidence:
        rng = np.random.default_rng(0)

        def pair(n):
            a = rng.normal(size=(n, 5)) * [1, 1, 1, 1, 0]
            return (a + rng.normal(size=a.shape)).astype(np.float32), a.astype(np.float32)

        alive = np.arange(5) < 4
        controls = tuple(np.float32(0.2 + 0.05 * rng.normal(size=(3, 6))))
        given = {
            "live": alive,
            "controls": controls,
            "permutations": 200,
            "draws": 50,
            "q": 0.1,
            "seed": 2,
        }
        return Evidence(*pair(n_val), *pair(90), **given | options)

    return make
