r"""Trains one of the small SigLIPs of the embedded default; writes checkpoint, tokenizer and log.

    python -m tools.train_siglip --model=s \
        --checkpoint=jaxle/scenes/checkpoints/siglip_s.npz --log=tools/scenes_siglip_s_log.csv
    python -m tools.train_siglip --model=m --steps=5000 \
        --checkpoint=jaxle/scenes/checkpoints/siglip_m.npz --log=tools/scenes_siglip_m_log.csv

Held out: 4,000 images of a world that training did not see. Ranking of the images by each concept's
bare word, as mean area under the ROC curve and mean average precision over the 110 concepts; and
zero-shot accuracy in percent: which of a group's words, in images of which exactly one is true.
Beside it what guessing gives, and the group's commonest word.

           AUC    AP  class thing shape colour texture size position count place
    s    0.938 0.682   60.8  54.7  64.6   99.0    56.0 96.4     83.3  93.4  98.1
    m    0.958 0.769   69.7  66.8  74.3   99.4    62.5 98.4     95.9  96.7  99.5
    guess  0.5 0.142    7.7   2.4   9.1   10.0    33.3 50.0     25.0  33.3  12.5
    commonest            8.5   3.1  19.5   17.1    45.1 57.6     25.6  51.1  19.1

937,346 and 1,441,634 parameters, 3.8 and 5.8 MB; trained on 384,000 and 640,000 images. The logged
runs took 24 minutes for the smaller one, on a core that was busy with other work, and 19 for the
larger one, on a core of its own.

    loss = mean of log(1 + exp(−z·(exp(t)·⟨image, text⟩ + b))),  z = ±1, over pairs of known target

Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023. Every batch is
rendered afresh from the model's own training world, so no image is seen twice; its texts are those
of `tools.siglip_texts`. The target of a pair is not whether text and image came together but
whether the text is true of the image, where the labels decide it.

A text tower can learn much before there is an image tower: first it is trained beside an oracle, a
small network whose input is what is in each part of a scene. Then the image tower is trained beside
the text tower, which is locked for three quarters of the steps (Zhai et al., LiT, CVPR 2022, with
the towers' roles exchanged) and trained as well in the last quarter. Optimiser: AdamW, linear
warm-up, cosine. The scale begins at 30 and the bias at −6, not 10 and −10: so few steps would not
bring them there. The tokenizer is trained first, unless its file, `spiece.model`, lies beside the
checkpoint already. The log states how well scores rank the images, averaged over concepts, and
zero-shot accuracy, both on a held-out world.
"""

from __future__ import annotations

import argparse
import csv
import functools
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import sentencepiece

from jaxle.models import siglip, zoo
from jaxle.models.tokenizers import STYLES, canonical, load_tokenizer
from jaxle.scenes import ATTRIBUTES, CLASS_NAMES, CONCEPTS, render
from jaxle.scenes.layout import SLOTS, layout, membership
from tools import siglip_texts

TEST_WORLD = 1_000_002
WORLDS = {"s": 1_000_011, "m": 1_000_012}  # what each trains on
SEEDS = {"s": 1, "m": 2}
GROUPS = {"class": CLASS_NAMES, **ATTRIBUTES}
COLUMNS = (
    "step",
    "images",
    "seconds",
    "train_loss",
    "test_auc",
    "test_ap",
    *(f"{group}_accuracy" for group in GROUPS),
)
TEXTS = {"short": 24, "full": 16, "unknown": 32}  # a step, besides one for each concept
TEXT_BATCH = 192  # scenes a step while only texts are learnt
LOCKED = 0.75  # the share of the image tower's steps in which the text tower stays as it is
SCALE, BIAS = 30.0, -6.0


def train_tokenizer(path: Path) -> None:
    """Writes a sentencepiece model to `path`.

    Special tokens are T5's, as in SigLIP's: pad 0, end 1, unknown 2.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([canonical(line) for line in siglip_texts.corpus()]),
        model_writer=model,
        model_type="unigram",
        vocab_size=siglip_texts.VOCABULARY,
        normalization_rule_name="identity",  # texts come in lower case; other rules weigh 200 KB
        required_chars="abcdefghijklmnopqrstuvwxyz0123456789",
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


class _Oracle(nn.Module):
    """An image tower that gets what is in each part of a scene in place of the image.

    bool (images, parts, concepts) to (images, out) of unit length.
    """

    out: int

    @nn.compact
    def __call__(self, bears: jax.Array) -> jax.Array:
        parts = nn.relu(nn.Dense(256)(bears.astype(jnp.float32))).sum(axis=1)
        return jnp.asarray(siglip.normalise(nn.Dense(self.out)(parts)))


@functools.partial(jax.jit, static_argnums=0)
def _init(module: nn.Module, key: jax.Array, *inputs):
    return module.init(key, *inputs)["params"]


def _loss(tower, module: siglip.SigLIP, locked: bool, params, seen, tokens, targets, known):
    texts: Any = module.apply({"params": params}, tokens, method="embed_texts")
    texts = jax.lax.stop_gradient(texts) if locked else texts
    logits = jnp.exp(params["t"][0]) * tower(params, seen) @ texts.T + params["b"][0]
    return jnp.sum(known * optax.sigmoid_binary_cross_entropy(logits, targets)) / jnp.sum(known)


def _see(module: siglip.SigLIP, params, images):
    return module.apply({"params": params}, images.astype(jnp.float32) / 127.5 - 1)


def _know(module: siglip.SigLIP, params, bears):
    return _Oracle(module.config.out).apply({"params": params["oracle"]}, bears)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(4, 5))
def _step(
    tower,
    module,
    locked: bool,
    optimiser: optax.GradientTransformation,
    params,
    state,
    seen,
    tokens,
    targets,
    known,
):
    loss = functools.partial(_loss, functools.partial(tower, module), module, locked)
    value, gradients = jax.value_and_grad(loss)(params, seen, tokens, targets, known)
    updates, state = optimiser.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value


@functools.partial(jax.jit, static_argnums=0)
def _cosines(module, params, images, tokens):
    embedded, texts = module.apply(
        {"params": params}, images.astype(jnp.float32) / 127.5 - 1, tokens
    )
    return embedded @ texts.T


@functools.cache
def _optimiser(steps: int, rate: float, decay: float) -> optax.GradientTransformation:
    # one object for one setting, so that training again compiles nothing again
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, min(200, steps // 10)), steps)

    def kernels(params):  # of the image tower: the text tower's would shrink while it is locked
        return jax.tree.map_with_path(
            lambda path, parameter: path[0].key == "img" and parameter.ndim > 1, params
        )

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.98, weight_decay=decay, mask=kernels),
    )


def ranking(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns area under the ROC curve, and average precision, of every concept.

    Ties are in the order of the images.

    Args:
      scores: float (images, concepts).
      labels: 0/1 (images, concepts).

    Returns:
      Two float (concepts,); nan where all labels are alike.
    """
    hits = np.take_along_axis(
        np.asarray(labels, np.float64), np.argsort(-scores, axis=0, kind="stable"), axis=0
    )
    place = np.arange(1, len(hits) + 1)[:, None]
    present, found = hits.sum(axis=0), np.cumsum(hits, axis=0)
    alike = (present == 0) | (present == len(hits))
    present = np.where(alike, np.nan, present)
    auc = ((1 - hits) * found).sum(axis=0) / (present * (len(hits) - present))
    return auc, (hits * found / place).sum(axis=0) / present


def zero_shot(scores: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> float:
    """Returns the share of images whose true name scores best, of those with one true name.

    Args:
      scores: float (images, concepts), in the order of CONCEPTS.
      labels: 0/1 (images, concepts).
      names: those of one group.

    Returns:
      The share; nan where no image has exactly one of the names.
    """
    columns = [CONCEPTS.index(name) for name in names]
    clear = labels[:, columns].sum(axis=1) == 1
    right = scores[:, columns].argmax(axis=1) == labels[:, columns].argmax(axis=1)
    return float(right[clear].mean()) if clear.any() else float("nan")


def measure(module, params, tokens: np.ndarray, world: int, n: int) -> tuple[float, ...]:
    """Returns mean area under the ROC curve, mean average precision, and accuracy by group.

    Means are over concepts, accuracy is zero-shot, all on `n` scenes.
    """
    scores, labels = [], []
    for start in range(0, n, 250):
        scenes = render(np.arange(start, min(start + 250, n)), world)
        scores.append(np.asarray(_cosines(module, params, scenes.images, tokens)))
        labels.append(scenes.concept_labels)
    scores, labels = np.concatenate(scores), np.concatenate(labels)
    auc, precision = ranking(scores, labels)
    accuracies = (zero_shot(scores, labels, names) for names in GROUPS.values())
    return float(np.nanmean(auc)), float(np.nanmean(precision)), *accuracies


def train(
    model: str,
    tokenizer: Path,
    text_steps: int,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
    every: int,
    test_images: int,
) -> Iterator:
    """Trains from scratch.

    Yields:
      At every line of the log: {"params"}, and the row in the order of COLUMNS.
    """
    module = zoo.ZOO[f"scenes_siglip_{model}"].module()
    tokenize = load_tokenizer(tokenizer, "siglip", siglip_texts.LENGTH)
    draw, words, world = np.random.default_rng(SEEDS[model]), tokenize(CONCEPTS), WORLDS[model]
    key, began = jax.random.key(SEEDS[model]), time.monotonic()
    params = _init(module, key, jnp.zeros((1, 64, 64, 3)), words[:1])
    params |= {
        "t": jnp.full((1,), np.log(SCALE), jnp.float32),
        "b": jnp.full((1,), BIAS, jnp.float32),
    }

    # the text tower, beside the oracle
    reading = {name: params.pop(name) for name in ("txt", "t", "b")}
    reading["oracle"] = _init(
        _Oracle(module.config.out), key, jnp.zeros((1, SLOTS + 1, len(CONCEPTS)))
    )
    optimiser = _optimiser(text_steps, rate, decay)
    state = optimiser.init(reading)
    for step in range(text_steps):
        index = np.arange(step * TEXT_BATCH, (step + 1) * TEXT_BATCH)
        bears = membership(layout(index, world))
        texts = siglip_texts.batch(index, world, draw, **TEXTS | {"unknown": 96})
        given = bears, tokenize(texts.texts), texts.targets, texts.known
        reading, state, loss = _step(_know, module, False, optimiser, reading, state, *given)
        if step % 100 == 99:
            seconds = time.monotonic() - began
            print(
                f"text step {step + 1}  seconds {seconds:.0f}  train_loss {float(loss):.6g}",
                flush=True,
            )

    # the image tower, then both
    params |= {name: reading[name] for name in ("txt", "t", "b")}
    optimiser = _optimiser(steps, rate, decay)
    state, recent = optimiser.init(params), []
    for step in range(1, steps + 1):
        index = np.arange((step - 1) * batch, step * batch)
        texts = siglip_texts.batch(index, world, draw, **TEXTS)
        given = render(index, world).images, tokenize(texts.texts), texts.targets, texts.known
        params, state, loss = _step(
            _see, module, step <= LOCKED * steps, optimiser, params, state, *given
        )
        recent.append(loss)
        if step % every == 0 or step == steps:
            losses, recent = np.mean(jax.device_get(recent)), []
            tested = measure(
                module,
                params,
                words,
                TEST_WORLD,
                test_images if step == steps else max(1, test_images // 4),
            )
            yield (
                {"params": jax.device_get(params)},
                (
                    step,
                    step * batch,
                    round(time.monotonic() - began),
                    float(losses),
                    *map(float, tested),
                ),
            )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    whole = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_siglip", description=__doc__, formatter_class=whole
    )
    parser.add_argument(
        "--model",
        choices=tuple(WORLDS),
        required=True,
        help="s, the explainer, or m, the simulator",
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="where to write the checkpoint (.npz)"
    )
    parser.add_argument("--log", type=Path, required=True, help="where to write the log (.csv)")
    parser.add_argument(
        "--text_steps", type=int, default=300, help="optimiser steps of the text tower alone"
    )
    parser.add_argument("--steps", type=int, default=3000, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.02, help="weight decay of the kernels")
    parser.add_argument("--every", type=int, default=100, help="steps between two lines of the log")
    parser.add_argument(
        "--test_images",
        type=int,
        default=4000,
        help="held-out images at the end; a quarter of them on the way",
    )
    arguments = parser.parse_args(argv)
    for name, least in (
        ("text_steps", 1),
        ("steps", 1),
        ("batch", 2),
        ("every", 1),
        ("test_images", 4),
    ):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(arguments, name)}")
    if arguments.checkpoint.suffix != ".npz":
        parser.error(f"--checkpoint must end in .npz, got {arguments.checkpoint}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = vars(_arguments(argv))
    checkpoint, log_file = arguments.pop("checkpoint"), arguments.pop("log")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = checkpoint.parent / STYLES["siglip"].files[0]
    if not tokenizer.is_file():
        train_tokenizer(tokenizer)
    with log_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for variables, row in train(tokenizer=tokenizer, **arguments):
            siglip.save(checkpoint, variables)
            writer.writerow([f"{value:.6g}" for value in row])
            file.flush()
            print(
                "  ".join(f"{name} {value:.6g}" for name, value in zip(COLUMNS, row, strict=True)),
                flush=True,
            )


if __name__ == "__main__":
    main()
