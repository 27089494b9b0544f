"""PE-Core against a torch restatement with open_clip's and timm's names (vit_pe_core_*), which
turns neighbouring numbers in pairs as the published networks do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.models import pe, zoo
from jaxle.models.declared import Declared
from jaxle.models.families import pe_entry
from jaxle.models.generated import generate
from jaxle.models.siglip import TextConfig
from jaxle.models.weights import convert

TEXT = TextConfig(width=16, depth=2, mlp_dim=64, heads=2, vocabulary=50, length=10)
SMALL = pe.PEConfig(8, 24, 2, 3, 4, 16, TEXT, pool_heads=2)
IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(1, 48, (3, 10), dtype=np.int32)
TOKENS[np.arange(3), [9, 3, 6]] = 49  # the end of text


def torch_pe(torch, config):
    """The two towers restated."""
    nn, w, text = torch.nn, config.width, config.text

    def mlp(width, inside, names):
        layers = (nn.Linear(width, inside), nn.GELU(), nn.Linear(inside, width))
        return nn.ModuleDict(dict(zip(names, layers, strict=True)))

    def run(module, x):
        for layer in module.values():
            x = layer(x)
        return x

    def heads_of(x, n):
        return x.reshape(*x.shape[:2], n, -1).transpose(1, 2)

    def attend(query, key, value):
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)
        return (weights @ value).transpose(1, 2).flatten(2)

    def turned(x):
        """By column and row, counted from 1, numbers (0, 1), (2, 3), … in pairs."""
        d, n = x.shape[-1], config.grid
        at = torch.arange(1, n + 1, dtype=torch.float32)
        bands = 10_000 ** (-torch.arange(d // 4) / (d // 4))
        columns, rows = at.repeat(n), at.repeat_interleave(n)
        angles = torch.cat([columns[:, None] * bands, rows[:, None] * bands], dim=1)
        a, b = x[:, :, 1:, ::2], x[:, :, 1:, 1::2]
        pairs = (a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin())
        return torch.cat([x[:, :, :1], torch.stack(pairs, dim=-1).flatten(3)], dim=2)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.proj = nn.Linear(w, 3 * w), nn.Linear(w, w)

        def forward(self, x):
            query, key, value = (heads_of(t, config.heads) for t in self.qkv(x).chunk(3, dim=-1))
            return self.proj(attend(turned(query), turned(key), value))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.attn, self.norm2 = nn.LayerNorm(w), Attention(), nn.LayerNorm(w)
            self.mlp = mlp(w, 4 * w, ("fc1", "act", "fc2"))

        def forward(self, x):
            x = x + self.attn(self.norm1(x))
            return x + run(self.mlp, self.norm2(x))

    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.latent, self.q = nn.Parameter(torch.zeros(1, 1, w)), nn.Linear(w, w)
            self.kv, self.proj, self.norm = nn.Linear(w, 2 * w), nn.Linear(w, w), nn.LayerNorm(w)
            self.mlp = mlp(w, 4 * w, ("fc1", "act", "fc2"))

        def forward(self, x):
            query = self.q(self.latent.expand(len(x), -1, -1))
            parts = (heads_of(t, config.pool_heads) for t in (query, *self.kv(x).chunk(2, dim=-1)))
            x = self.proj(attend(*parts))
            return (x + run(self.mlp, self.norm(x)))[:, 0]

    class Trunk(nn.Module):
        def __init__(self):
            super().__init__()
            stem = nn.Conv2d(3, w, config.patch, config.patch, bias=False)
            self.patch_embed = nn.ModuleDict({"proj": stem})
            self.cls_token = nn.Parameter(torch.zeros(1, 1, w))
            self.pos_embed = nn.Parameter(torch.zeros(1, config.grid**2 + 1, w))
            self.norm_pre, self.norm = nn.LayerNorm(w), nn.LayerNorm(w)
            self.blocks = nn.ModuleList([Block() for _ in range(config.depth)])
            self.attn_pool, self.head = Pool(), nn.Linear(w, config.out)

        def forward(self, x):
            x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
            x = self.norm_pre(x)
            for block in self.blocks:
                x = block(x)
            return self.head(self.attn_pool(self.norm(x)))

    class Resblock(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(text.width), nn.LayerNorm(text.width)
            self.attn = nn.MultiheadAttention(text.width, text.heads, batch_first=True)
            self.mlp = mlp(text.width, text.mlp_dim, ("c_fc", "gelu", "c_proj"))

        def forward(self, x):
            y, n = self.ln_1(x), x.shape[1]
            mask = torch.full((n, n), -torch.inf).triu(1)
            x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
            return x + run(self.mlp, self.ln_2(x))

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.token_embedding = nn.Embedding(text.vocabulary, text.width)
            self.positional_embedding = nn.Parameter(torch.zeros(text.length, text.width))
            self.transformer = nn.Module()
            self.transformer.resblocks = nn.ModuleList([Resblock() for _ in range(text.depth)])
            self.ln_final = nn.LayerNorm(text.width)
            self.text_projection = nn.Parameter(torch.zeros(text.width, config.out))

        def forward(self, tokens):
            x = self.token_embedding(tokens) + self.positional_embedding
            for block in self.transformer.resblocks:
                x = block(x)
            last = self.ln_final(x)[torch.arange(len(x)), tokens.argmax(1)]
            return last @ self.text_projection

    net = nn.Module()
    net.visual, net.text = nn.ModuleDict({"trunk": Trunk()}), Text()
    net.logit_scale = nn.Parameter(torch.zeros(()))
    return net


def check(parity, torch, config, images, tokens):
    """Stem, first block and both embeddings against torch's, to 1e-5 of the scale."""
    net, held = parity.randomise(torch, torch_pe(torch, config)), []
    trunk, module, aliases = net.visual.trunk, pe.PE(config), pe.aliases(config)
    handles = [
        m.register_forward_hook(lambda _, __, out: held.append(out.numpy()))
        for m in (trunk.norm_pre, trunk.blocks[0])
    ]
    with torch.no_grad():
        image = trunk(torch.tensor(images).permute(0, 3, 1, 2))
        text = net.text(torch.tensor(tokens, dtype=torch.long))
    for handle in handles:
        handle.remove()
    held += [torch.nn.functional.normalize(z, dim=1).numpy() for z in (image, text)]
    source = {name: t.numpy() for name, t in net.state_dict().items()}
    shapes = jax.eval_shape(module.init, jax.random.key(0), images, tokens)
    variables = jax.tree.map(jnp.asarray, convert(source, shapes, pe.layouts(config), "test"))
    names = ("img/pre_norm", "visual.trunk.blocks[0]")
    values, z_image = parity.recorded(module, variables, images, aliases, names)
    z_text = jax.jit(lambda v, x: module.apply(v, x, method="embed_texts"))(variables, tokens)
    shares = [
        parity.close(ours, theirs, 1e-5)
        for ours, theirs in zip((*values.values(), z_image, z_text), held, strict=True)
    ]
    return shares, (trunk, module, variables, aliases, source)


def test_open_clips_layout_stage_by_stage(parity, torch):
    _, (trunk, module, variables, aliases, _) = check(parity, torch, SMALL, IMAGES, TOKENS)

    def embed(x):
        return torch.nn.functional.normalize(trunk(x), dim=1)

    alias, hidden = "img.blocks[1].mlp.act", trunk.blocks[1].mlp.act
    parity.hook_agrees(torch, module, variables, IMAGES, aliases, alias, embed, hidden, 2)


def test_angles_stretch_with_the_image_and_count_from_one():
    cosine, sine = pe.angles((14, 14), 14, 64)
    assert cosine.shape == (1, 196, 1, 64)
    np.testing.assert_allclose(cosine[0, 15, 0, 0], np.cos(2), rtol=1e-6)  # second column
    np.testing.assert_allclose(sine[0, 28, 0, 16], np.sin(3), rtol=1e-6)  # third row
    half = pe.angles((7, 7), 14, 64)[0]
    np.testing.assert_allclose(half[0, 0, 0, 0], np.cos(2), rtol=1e-6)


def test_it_embeds_images_and_is_a_two_tower_model(monkeypatch, tmp_path):
    monkeypatch.setitem(zoo.ZOO, "pe", pe_entry(SMALL, 32, "org/pe", 0))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    path = generate("pe", tmp_path)
    model = zoo.load_model("pe", path)
    z = model.embed_images(pictures)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    assert model.shift == 0 and model.preprocess.resize == "squash" and model.taps["img/head"]
    larger = zoo.load_model("pe", path, image_size=64, resample_positions=True)
    assert larger.taps["img/Transformer"] == (65, 24)
    with pytest.raises(ValueError, match="pos_embedding"):
        zoo.load_model("pe", path, image_size=64)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"vision_cfg": {"image_size": 64}}, "vision_cfg.image_size 64, and the network has 32"),
        ({"embed_dim": 24}, "embed_dim 24, and the network has 16"),
        ({"text_cfg": {"context_length": 72}}, "context_length 72, and the network has 10"),
    ],
)
def test_an_open_clip_config_of_another_network_is_refused(held, message):
    with pytest.raises(ValueError, match=message):
        pe.adapted(SMALL, Declared("w", config={"model_cfg": held}), 32)


def test_full_size(parity, torch):
    """PE-Core-T/16 as published, 384 pixels."""
    config = pe.of_size("T")
    images = np.random.default_rng(1).normal(size=(1, 384, 384, 3)).astype(np.float32)
    tokens = np.random.default_rng(3).integers(0, 49_000, (1, 32), dtype=np.int32)
    tokens[0, 20] = 49_407
    shares, _ = check(parity, torch, config, images, tokens)
    print(f"\nPE-Core-T/16: stem, block, image, text {', '.join(f'{s:.1e}' for s in shares)}")


def test_sizes_are_open_clips():
    """model_configs/PE-Core-*.json."""
    for size, pixels in (("T", 384), ("S", 384), ("B", 224), ("L", 336)):
        config = pe.of_size(size)
        assert config.grid == pixels // config.patch and config.text.width == config.out
        assert dataclasses.replace(config.text, length=77).heads == config.out // 64
