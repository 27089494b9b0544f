"""Activations that another program recorded: docs/from_pytorch.md says which files may lie there.

    python -m jaxle.launch --config configs/arrays.py --config.data.source=arrays:FOLDER

Explains by labels.npy; without labels name an encoder's method, or `defaults.given()`. Seconds for
a layer of some hundred neurons.
"""

from jaxle.pipeline import defaults


def get_config():
    config = defaults.get_config()
    config.data.source = "arrays:dump"
    config.target.model = "arrays"
    config.target.taps = ("*",)
    return config
