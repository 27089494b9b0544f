"""Vision transformers against transformers' own and torch restatements with torchvision's and
timm's names; big_vision's tree too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxle.models import checkpoints, taps, vit
from jaxle.models.suffix import Suffix

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
SMALL = {"patch": 8, "width": 24, "depth": 2, "mlp_dim": 40, "heads": 3, "num_classes": 7}


def torch_vit(torch, config, size, timm=False):
    """torchvision's layout restated, or timm's."""
    nn, w = torch.nn, config.width

    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = nn.Linear(w, 3 * w), nn.Linear(w, w)

        def forward(self, x):
            q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, config.heads, -1).permute(2, 0, 3, 1, 4)
            weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)
            return self.proj((weights @ v).transpose(1, 2).flatten(2))

    class Timm(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.attn, self.norm2 = (
                nn.LayerNorm(w, 1e-6),
                Fused(),
                nn.LayerNorm(w, 1e-6),
            )
            self.mlp = nn.ModuleDict(
                {
                    "fc1": nn.Linear(w, config.mlp_dim),
                    "act": nn.GELU(),
                    "fc2": nn.Linear(config.mlp_dim, w),
                }
            )

        def forward(self, x):
            x = x + self.attn(self.norm1(x))
            return x + self.mlp.fc2(self.mlp.act(self.mlp.fc1(self.norm2(x))))

    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.self_attention = (
                nn.LayerNorm(w, 1e-6),
                nn.MultiheadAttention(w, config.heads, batch_first=True),
            )
            self.ln_2 = nn.LayerNorm(w, 1e-6)
            self.mlp = nn.Sequential(
                nn.Linear(w, config.mlp_dim),
                nn.GELU(),
                nn.Dropout(0),
                nn.Linear(config.mlp_dim, w),
                nn.Dropout(0),
            )

        def forward(self, x):
            y = self.ln_1(x)
            x = x + self.self_attention(y, y, y, need_weights=False)[0]
            return x + self.mlp(self.ln_2(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            tokens = (size // config.patch) ** 2 + 1
            stem, token, positions = (
                nn.Conv2d(3, w, config.patch, config.patch),
                torch.zeros(1, 1, w),
                torch.zeros(1, tokens, w),
            )
            if timm:
                self.cls_token, self.pos_embed = nn.Parameter(token), nn.Parameter(positions)
                self.patch_embed = nn.ModuleDict({"proj": stem})
                self.blocks, self.norm = (
                    nn.Sequential(*[Timm() for _ in range(config.depth)]),
                    nn.LayerNorm(w, 1e-6),
                )
                self.head = nn.Linear(w, config.num_classes)
            else:
                self.conv_proj, self.class_token = stem, nn.Parameter(token)
                self.encoder = nn.Module()
                self.encoder.pos_embedding = nn.Parameter(positions)
                blocks = {f"encoder_layer_{i}": Vision() for i in range(config.depth)}
                self.encoder.layers, self.encoder.ln = nn.ModuleDict(blocks), nn.LayerNorm(w, 1e-6)
                self.heads = nn.ModuleDict({"head": nn.Linear(w, config.num_classes)})

        def parts(self):
            if timm:
                return (
                    self.patch_embed.proj,
                    self.cls_token,
                    self.pos_embed,
                    list(self.blocks),
                    self.norm,
                    self.head,
                )
            e = self.encoder
            return (
                self.conv_proj,
                self.class_token,
                e.pos_embedding,
                list(e.layers.values()),
                e.ln,
                self.heads.head,
            )

        def forward(self, x):
            stem, token, positions, blocks, norm, head = self.parts()
            x = stem(x).flatten(2).transpose(1, 2)
            x = torch.cat([token.expand(len(x), -1, -1), x], 1) + positions
            for block in blocks:
                x = block(x)
            return head(norm(x)[:, 0])

    return Net()


def tokens_of(torch, net, images, *modules):
    held = []

    def keep(_, __, out):
        held.append((out[0] if isinstance(out, tuple) else out).numpy())

    handles = [m.register_forward_hook(keep) for m in modules]
    with torch.no_grad():
        out = net(torch.tensor(np.array(images)).permute(0, 3, 1, 2))
    for handle in handles:
        handle.remove()
    return held, getattr(out, "logits", out).numpy()


@pytest.mark.parametrize("timm", [False, True])
def test_torchvisions_and_timms_layouts_stage_by_stage(parity, torch, timm):
    config = vit.ViTConfig(**SMALL)
    net = parity.randomise(torch, torch_vit(torch, config, 32, timm))
    module, aliases = vit.ViT(config), vit.aliases(config)
    variables = parity.variables(
        module,
        IMAGES,
        {name: t.numpy() for name, t in net.state_dict().items()},
        vit.layouts(config),
    )
    blocks = net.parts()[3]
    names = (
        "encoder.layers.encoder_layer_0",
        "encoder.layers.encoder_layer_1",
        "encoder.layers.encoder_layer_1.mlp[1]",
        "embedding",
    )
    values, logits = parity.recorded(module, variables, IMAGES, aliases, names)
    activation = blocks[1].mlp.act if timm else blocks[1].mlp[1]
    (stem, first, hidden, second), expected = tokens_of(
        torch, net, IMAGES, net.parts()[0], *blocks, activation
    )
    for name, value in zip(names, (first, second, hidden, stem.transpose(0, 2, 3, 1)), strict=True):
        parity.close(values[name], value)
    parity.close(logits, expected)
    parity.hook_agrees(torch, module, variables, IMAGES, aliases, names[2], net, activation, 2)
    if timm:
        parity.every_alias(module, variables, IMAGES, aliases)


def test_torchvisions_older_mlp_names(parity, torch):
    config = vit.ViTConfig(**SMALL)
    net = parity.randomise(torch, torch_vit(torch, config, 32))
    source = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t.numpy()
        for name, t in net.state_dict().items()
    }
    variables = parity.variables(vit.ViT(config), IMAGES, source, vit.layouts(config))
    parity.close(
        jax.jit(vit.ViT(config).apply)(variables, IMAGES), tokens_of(torch, net, IMAGES)[1]
    )


def hub_vit(torch, parity, tmp_path, config, size):
    from transformers import ViTConfig, ViTForImageClassification

    net = ViTForImageClassification(
        ViTConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_dim,
            image_size=size,
            patch_size=config.patch,
            num_labels=config.num_classes,
            layer_norm_eps=config.epsilon,
        )
    )
    parity.randomise(torch, net).save_pretrained(tmp_path)
    return net, checkpoints.read(tmp_path / "model.safetensors")


def test_transformers_layout(parity, torch, tmp_path):
    config = vit.ViTConfig(**SMALL, epsilon=1e-12)
    net, source = hub_vit(torch, parity, tmp_path, config, 32)
    variables = parity.variables(vit.ViT(config), IMAGES, source, vit.layouts(config))
    parity.close(
        jax.jit(vit.ViT(config).apply)(variables, IMAGES), tokens_of(torch, net, IMAGES)[1]
    )


def drawn(module, images, seed=0):
    """Variables of unit scale in big_vision's tree, as a flat dict."""
    shapes = traverse_util.flatten_dict(
        jax.eval_shape(module.init, jax.random.key(0), images)["params"], sep="/"
    )
    draw = np.random.default_rng(seed)
    return {
        name: draw.normal(size=leaf.shape).astype(np.float32) * 0.2 for name, leaf in shapes.items()
    }


@pytest.mark.parametrize("pool", ["tok", "gap", "map"])
def test_big_visions_tree_in_all_its_ages(parity, pool):
    """Bare, under params/ or opt/target/, scanned, positions in the encoder with the token's among
    them, names from before Linen."""
    config = vit.ViTConfig(**SMALL, pool=pool, activation="gelu_tanh", rep_size=pool == "gap")
    module = vit.ViT(config)
    flat = drawn(module, IMAGES)

    def load(source):
        return parity.variables(module, IMAGES, source, vit.layouts(config))

    expected = jax.tree.map(jnp.asarray, {"params": traverse_util.unflatten_dict(flat, sep="/")})
    ages = [flat, {f"params/{n}": t for n, t in flat.items()}]
    ages.append(
        {
            **{f"opt/target/{n}": t for n, t in flat.items()},
            "opt/state/step": np.zeros(()),
            "extra/x": np.zeros(1),
        }
    )
    scanned = {name: tensor for name, tensor in flat.items() if "encoderblock" not in name}
    for name in flat:
        if "encoderblock_0/" in name:
            scanned[name.replace("encoderblock_0", "encoderblock")] = np.stack(
                [flat[name], flat[name.replace("block_0", "block_1")]]
            )
    ages.append({f"params/{n}": t for n, t in scanned.items()})
    if pool == "tok":
        old = {
            n.replace("MultiHeadDotProductAttention_0", "MultiHeadDotProductAttention_1")
            .replace("MlpBlock_0", "MlpBlock_3")
            .replace("LayerNorm_1", "LayerNorm_2"): t
            for n, t in flat.items()
        }
        own = np.full((1, 1, config.width), 0.5, np.float32)
        old["Transformer/posembed_input/pos_embedding"] = np.concatenate(
            [own, old.pop("pos_embedding")], axis=1
        )
        old["cls"] = old["cls"] - own
        ages.append(old)
    for source in ages:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), load(source), expected
        )
    parity.every_alias(
        module,
        expected,
        IMAGES,
        {"encoder": "Transformer", "blocks[1].mlp.act": vit.aliases(config)["blocks[1].mlp.act"]},
    )


def test_fixed_positions_have_no_parameters_and_are_moco_v3s():
    config = vit.ViTConfig(**SMALL, positions="sincos2d", pool="gap")
    assert "pos_embedding" not in drawn(vit.ViT(config), IMAGES)
    table = vit._sincos(4, 4, 24).reshape(4, 4, 24)
    np.testing.assert_allclose(table[2, 3, 0], np.sin(3), rtol=1e-6)
    np.testing.assert_allclose(table[2, 3, 18 + 5], np.cos(2 / 10_000), rtol=1e-6)


def test_a_suffixs_cost_is_that_of_the_blocks_after_it():
    config = vit.ViTConfig(patch=4, width=48, depth=4, mlp_dim=192, heads=3, num_classes=7)
    module = vit.ViT(config)
    variables = jax.eval_shape(module.init, jax.random.key(0), IMAGES)

    def flops(f, *args):
        return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]

    whole = flops(module.apply, variables, IMAGES)
    for i in (0, 1, 3):
        suffix = Suffix(module, taps.Tap(f"Transformer/encoderblock_{i}"), (IMAGES,))
        carried = jax.eval_shape(suffix.record, variables, IMAGES)
        assert carried.around == ()
        share = flops(suffix, variables, carried) / whole
        assert (3 - i) / 4 - 0.1 < share < (3 - i) / 4 + 0.06  # of the last block, one token


def test_bad_configs_are_one_sentence():
    with pytest.raises(ValueError, match="pool is 'cls'; expected one of tok, gap, map"):
        vit.ViTConfig(pool="cls")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "patch", "form"),
    [("B", 16, "torchvision"), ("B", 16, "transformers"), ("L", 32, "torchvision")],
)
def test_full_size(parity, torch, tmp_path, size, patch, form):
    config = vit.of_size(size, patch, epsilon=1e-12 if form == "transformers" else 1e-6)
    images = np.random.default_rng(1).normal(size=(1, 224, 224, 3)).astype(np.float32)
    if form == "transformers":
        net, source = hub_vit(torch, parity, tmp_path, config, 224)
        stem, block = net.vit.embeddings, net.vit.layers[config.depth // 2]
    else:
        net = parity.randomise(torch, torch_vit(torch, config, 224))
        source = {name: t.numpy() for name, t in net.state_dict().items()}
        stem, block = net.parts()[0], net.parts()[3][config.depth // 2]
    module = vit.ViT(config)
    variables = parity.variables(module, images, source, vit.layouts(config))
    names = (
        "Transformer:in" if form == "transformers" else "embedding",
        f"Transformer/encoderblock_{config.depth // 2}",
    )
    values, logits = parity.recorded(module, variables, images, {}, names)
    held, expected = tokens_of(torch, net, images, stem, block)
    if form == "torchvision":
        held[0] = held[0].transpose(0, 2, 3, 1)
    shares = [parity.close(values[name], value) for name, value in zip(names, held, strict=True)]
    print(
        f"\nViT-{size}/{patch} {form}: {', '.join(f'{s:.1e}' for s in shares)}, "
        f"logits {parity.close(logits, expected):.1e} of the scale"
    )
