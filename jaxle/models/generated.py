"""Checkpoints of random values at full shape, in the formats in which the real ones are published.

With them a run is rehearsed without a download.

    big_vision's .npz  SigLIP, SigLIP 2, ViT; a sentencepiece vocabulary beside the towers'; and, by
                       jaxle's own names, PE-Core, whose files hold query, key and value as one
    .safetensors       the others, with the tensor names and shapes of torchvision or transformers,
                       by their layout read backwards

Values are those that the architecture's own initialisers draw (batch statistics 0 and 1). What is
written goes through the strict loading code that reads the real files; the numbers of a run on it
mean nothing.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxle import artifacts
from jaxle.models import siglip, zoo
from jaxle.models.checkpoints import Tensors
from jaxle.models.weights import Layout, Rename
from jaxle.scenes.vocabulary import CONCEPTS

_LETTERS = string.ascii_lowercase + string.digits
_PIECES = {"siglip": ("<pad>", "</s>"), "siglip2": ("<pad>", "<eos>")}  # padding, end


def generate(name: str, folder: str | Path, seed: int = 0) -> Path:
    """Returns the path of a checkpoint of random values, for `load_model(name, path)`.

    A text tower's tokenizer lies beside it.

    Args:
      name: a key of `zoo.ZOO`.
      folder: where checkpoints are kept, each in a folder of its own; one that is there and whole
        is used again.
      seed: of the values.

    Raises:
      ValueError: a name that the zoo does not have.
    """
    if name not in zoo.ZOO:
        raise ValueError(
            f"weights can be generated for models of the zoo only, got {name!r}; "
            f"valid: {', '.join(zoo.ZOO)}"
        )
    entry, folder = zoo.ZOO[name], Path(folder) / f"{name}-{seed}"
    ours = "big_vision" in entry.layouts or next(iter(entry.layouts)) == "flax"
    path = folder / ("model.npz" if ours else "model.safetensors")
    if _is_whole(folder, path):
        return path
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    variables = _drawn(entry, seed)
    if path.suffix == ".npz":
        siglip.save(path, variables)
    else:
        from safetensors.numpy import save

        tensors = published(
            variables, next(layout for label, layout in entry.layouts.items() if label != "flax")
        )
        data = save(tensors)
        artifacts.write_file(path, lambda file: _write(file, data))
    if entry.text is not None:
        _write_tokenizer(folder, entry.text.style)
    artifacts.write_json(
        folder / artifacts.MANIFEST, {file.name: file.stat().st_size for file in folder.iterdir()}
    )
    return path


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(data)


def _drawn(entry: zoo.Entry, seed: int) -> Mapping[str, Any]:
    """What `load_model(…, random_init_seed=seed)` draws, one parameter after another.

    Compiling that whole takes minutes at full size.
    """
    size = entry.preprocess.size
    inputs = [jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)]
    if entry.text is not None:
        inputs.append(jax.ShapeDtypeStruct((1, entry.text.length), jnp.int32))
    return entry.module().lazy_init(jax.random.key(seed, impl="rbg"), *inputs, **entry.call)


def _is_whole(folder: Path, path: Path) -> bool:
    """The manifest is written last and holds each file's bytes."""
    try:
        sizes = json.loads((folder / artifacts.MANIFEST).read_text(encoding="utf-8"))
        return path.name in sizes and all(
            (folder / name).stat().st_size == size for name, size in sizes.items()
        )
    except (OSError, ValueError):
        return False


def published(variables: Mapping[str, Any], layout: Layout) -> Tensors:
    """Returns the tensors, in a format's names and shapes, that its layout turns into variables.

    Args:
      variables: nested dict of arrays.
      layout: one whose rows each fill a parameter from a tensor of its own (no fused query, key and
        value).

    Returns:
      Source name → float32 array; what `layout` alone makes of them is `variables`, bit for bit.

    Raises:
      ValueError: a parameter that no row gives back.
    """
    tensors = {}
    for path, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        value = np.asarray(leaf)
        found = (
            (name, _before(row.transform, value))
            for row in layout.renames
            for name in _sources(row, path)
        )
        name, tensor = next(
            (
                (name, tensor)
                for name, tensor in found
                if tensor is not None and name not in tensors
            ),
            (None, None),
        )
        if name is None:
            raise ValueError(f"no row of the layout gives back {path} {value.shape}")
        tensors[name] = tensor
    return tensors


def _sources(row: Rename, path: str) -> Iterator[str]:
    """The name that the row turns into this path, where there is one: its groups are found in the
    path, and put into the pattern."""
    parts = re.split(r"(\([^()]*\))", row.pattern)  # literal text and groups in turn
    groups = parts[1::2]
    pieces = re.split(r"\\(\d)", row.path)
    wanted = "".join(
        re.escape(piece) if i % 2 == 0 else groups[int(piece) - 1] for i, piece in enumerate(pieces)
    )
    if not (match := re.fullmatch(wanted, path)):
        return
    values = dict(zip(pieces[1::2], match.groups(), strict=True))
    name = "".join(
        re.sub(r"\\(.)", r"\1", part) if i % 2 == 0 else values.get(str(i // 2 + 1), "")
        for i, part in enumerate(parts)
    )
    if (again := re.fullmatch(row.pattern, name)) and again.expand(row.path) == path:
        yield name


def _before(transform: Callable[[np.ndarray], np.ndarray], value: np.ndarray) -> np.ndarray | None:
    """The tensor that `transform`, which only moves numbers, turns into `value`: found by what it
    does to their places."""
    for shape in _shapes_before(value.shape):
        try:
            places = transform(np.arange(value.size, dtype=np.int32).reshape(shape))
        except (ValueError, IndexError):
            continue
        if places.shape == value.shape:
            tensor = np.empty(value.size, np.float32)
            tensor[places.reshape(-1)] = value.reshape(-1)
            return tensor.reshape(shape)
    return None


def _shapes_before(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Shapes that a tensor may have had, fewest axes first: leading ones dropped, heads joined,
    torch's order of axes, as it is."""
    leading = sum(1 for _ in itertools.takewhile(lambda n: n == 1, shape))
    yield from (shape[i:] for i in range(leading, 0, -1))
    if len(shape) == 3:  # by heads: inputs, heads, each; heads, each, outputs
        yield from ((shape[1] * shape[2], shape[0]), (shape[2], shape[0] * shape[1]))
    if len(shape) == 2:
        yield from ((shape[0] * shape[1],), shape[::-1])
    if len(shape) == 4:
        yield (shape[3], shape[2], shape[0], shape[1])
    yield shape


def _write_tokenizer(folder: Path, style: str) -> None:
    """A small vocabulary of the style, learnt from the words of the scenes world.

    It has every letter and digit, so every word is read.
    """
    words = [*CONCEPTS, *_LETTERS]
    if style == "clip":
        _write_byte_pairs(folder / "tokenizer.json", words)
        return
    import sentencepiece

    held, (pad, end) = io.BytesIO(), _PIECES[style]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=held,
        vocab_size=400,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece=pad,
        eos_piece=end,
    )
    name = "spiece.model" if style == "siglip" else "tokenizer.model"
    artifacts.write_file(folder / name, lambda file: _write(file, held.getvalue()))


def _write_byte_pairs(path: Path, words: list[str]) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.normalizer, model.pre_tokenizer = (
        normalizers.Lowercase(),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )
    special = [
        "<|startoftext|>",
        "<|endoftext|>",
        *(f"{letter}</w>" for letter in sorted(alphabet)),
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        special_tokens=special,
        show_progress=False,
    )
    model.train_from_iterator(words, trainer)
    artifacts.write_text(path, model.to_str())
