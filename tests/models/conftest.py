"""What every architecture is put through: parity with torch stage by stage, and every alias as tap,
suffix and hook."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models import taps
from jaxle.models.suffix import Suffix
from jaxle.models.weights import convert


def close(got, expected, tolerance: float = 1e-4) -> float:
    """Assert a largest difference of at most `tolerance` of the scale of `expected`; returns the
    share."""
    got, expected = np.asarray(got, np.float32), np.asarray(expected, np.float32)
    assert got.shape == expected.shape, f"{got.shape} against {expected.shape}"
    share = float(np.abs(got - expected).max() / np.abs(expected).max())
    assert share <= tolerance, f"differs by {share:.2e} of the scale"
    return share


@functools.partial(jax.jit, static_argnums=0)
def apply(module, variables, images):
    """The network, compiled once for all checks of one module."""
    return module.apply(variables, images)


class Parity:
    """Methods that the family tests share."""

    close = staticmethod(close)

    @staticmethod
    def randomise(torch, module, seed: int = 0):
        """Weights of unit gain and batch statistics off their defaults, so that no mistake hides;
        the module in eval mode."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                if not value.dtype.is_floating_point:
                    continue
                noise = torch.randn(value.shape, generator=generator)
                if value.ndim >= 2 and "embed" not in name and "pos" not in name:
                    value.copy_(noise * (1.4 / value[0].numel() ** 0.5))
                elif name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
                    value.copy_(1 + 0.2 * noise.abs())
                else:
                    value.copy_(0.1 * noise)
        return module.eval()

    @staticmethod
    def variables(module, images, source, layouts):
        """Random-init shapes filled from a flat dict, strictly."""
        shapes = jax.eval_shape(module.init, jax.random.key(0), images)
        return jax.tree.map(jnp.asarray, convert(source, shapes, layouts, "test"))

    @staticmethod
    def every_alias(module, variables, images, aliases):
        """suffix(record) is the network, and an edited channel is what replacing it in the whole
        forward pass gives."""
        expected = apply(module, variables, images)
        found = taps.sites(module, variables, images)
        for tap in {taps.resolve(alias, found, aliases) for alias in aliases}:
            suffix = Suffix(module, tap, (images,))

            @jax.jit
            def run(variables, images, suffix=suffix, tap=tap):
                carried = suffix.record(variables, images)
                edited = carried._replace(value=carried.value.at[..., 0].set(0.3))
                whole, _ = taps.forward(module, variables, images, replace={tap: edited.value})
                return suffix(variables, carried), suffix(variables, edited), whole

            same, edited, whole = run(variables, images)
            close(same, expected)
            close(edited, whole)

    @staticmethod
    def hook_agrees(
        torch, module, variables, images, aliases, alias, torch_module, hooked, channels_axis: int
    ):
        """Channel 1 replaced by 0.5 at an alias gives what a torch forward hook gives, and not the
        unchanged logits."""
        tap = taps.resolve(alias, taps.sites(module, variables, images), aliases)
        replaced = jax.jit(
            lambda variables, images: taps.forward(
                module, variables, images, replace={tap: lambda v: v.at[..., 1].set(0.5)}
            )[0]
        )(variables, images)

        def hook(_, __, output):
            output = output.clone()
            output.select(channels_axis, 1).fill_(0.5)
            return output

        handle = hooked.register_forward_hook(hook)
        with torch.no_grad():
            expected = torch_module(torch.tensor(np.array(images)).permute(0, 3, 1, 2))
        handle.remove()
        expected = getattr(expected, "logits", expected).numpy()
        close(replaced, expected)
        assert (
            np.abs(expected - np.asarray(apply(module, variables, images))).max()
            > 1e-3 * np.abs(expected).max()
        )

    @staticmethod
    def recorded(module, variables, images, aliases, names):
        """Alias → value, all in one forward pass, and the output."""
        found = taps.sites(module, variables, images)
        chosen = {name: taps.resolve(name, found, aliases) for name in names}
        output, values = jax.jit(lambda v, x: taps.forward(module, v, x, record=chosen.values()))(
            variables, images
        )
        return {name: values[tap] for name, tap in chosen.items()}, output


@pytest.fixture(scope="session")
def parity():
    """The shared methods, as a fixture."""
    return Parity
