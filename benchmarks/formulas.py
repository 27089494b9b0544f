"""What formulas gain at equal numbers of words: a config for the launcher, in two variants.

    python -m jaxle.launch --config benchmarks/formulas.py:quickstart
    python -m jaxle.launch --config benchmarks/formulas.py:resnet20

The second needs what configs/resnet20_cifar10.py needs. Each method stands beside the same one with
`formulas=2`, `preconditioned` both times at the mean number of words of `label`, and INVERT at two
least shares of images. The run compares all of them on the same draws of the test images. What came
out is in docs/methods.md, "Formulas".
"""

from __future__ import annotations

from typing import Any

from configs import quickstart, resnet20_cifar10
from jaxle.pipeline import defaults

CONFIGS = {"quickstart": quickstart.get_config, "resnet20": resnet20_cifar10.get_config}


def get_config(variant: str = "quickstart") -> Any:
    """Returns the config of a variant with more methods."""
    if variant not in CONFIGS:
        raise ValueError(f"formulas.py has the variants {', '.join(CONFIGS)}, got {variant!r}")
    config = CONFIGS[variant]()
    config.evaluation.controls = 0
    config.evaluation.counterfactual = 0
    if "siglip" in config.methods:
        del config.methods["siglip"]
    config.methods.formulas = defaults.label("preconditioned", "label", formulas=2)
    config.methods.greedy_formulas = defaults.label("greedy", formulas=2)
    config.methods.invert = defaults.label("invert")
    config.methods.invert_5 = defaults.label("invert", min_fraction=0.05)
    return config
