"""What a target must be like for a config, checked before any image is read."""

from __future__ import annotations

from jaxle.models.model import Model
from jaxle.models.recorded import RecordedModel
from jaxle.models.two_tower import TwoTower
from jaxle.pipeline.config import Target

AnyModel = Model | TwoTower | RecordedModel


def check_target(network: AnyModel, target: Target) -> None:
    """Raises a ValueError for a tap or pool that cannot be read, or names that are not the logits'.

    Args:
      network: the target.
      target: what the config asks of it.
    """
    _check_taps(network, target)
    _check_class_names(network, target)


def _check_taps(network: AnyModel, target: Target) -> None:
    for tap in target.taps:
        shape = network.taps[network.resolve(tap)]
        if target.pool == "none" and len(shape) != 1:
            raise ValueError(
                f"pool 'none' keeps positions apart, and tap {tap!r} has shape {shape}: "
                "expected avg, max or first."
            )


def _check_class_names(network: AnyModel, target: Target) -> None:
    if not target.class_names or not isinstance(network, Model):
        return
    n = network.n_outputs
    if len(target.class_names) != n:
        raise ValueError(
            f"target.class_names has {len(target.class_names)} names, and {target.model!r} has {n} "
            "outputs: expected one name a logit, in their order."
        )
