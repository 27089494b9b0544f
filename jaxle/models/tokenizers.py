"""From texts to token numbers of fixed length, through each text tower's own vocabulary.

A vocabulary is read from a local file, a folder or the hub.

    siglip    lower case, no punctuation, "_" and runs of white space to one space; sentencepiece;
              end, padded with the end token
    siglip2   lower case; Gemma's vocabulary; end, padded with <pad>
    clip      byte-pair encoding in lower case; between start and end, padded with 0

A text too long is cut and still ends with the end token; `Tokenizer.cut` names such texts.

Sources: google-research/big_vision, `_canonicalize` in evaluators/proj/image_text/
prompt_engineering.py, `tokenize` in pp/ops_text.py (eos="sticky", pad_value=1) and `tok` in
pp/proj/paligemma/ops.py; transformers, tokenization_siglip.py (which drops "_" where big_vision and
open_clip make it a space); openai/CLIP, clip.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from jaxle.models import download

Tokenize = Callable[[Sequence[str]], Int32[np.ndarray, "texts length"]]

_SUFFIXES = (".model", ".json")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# A character for private use: its pieces, an unknown one or its bytes, make up no other text.
_OF_NO_ALPHABET = "\ue000"


def canonical(text: str) -> str:
    """Returns the text as SigLIP was evaluated on it: lower case, no punctuation, single spaces."""
    return re.sub(r"\s+", " ", text.replace("_", " ").translate(_PUNCTUATION).lower()).strip()


class Style(NamedTuple):
    """What a text tower expects.

    Attributes:
      files: names of files that hold its vocabulary, the hub's first.
      clean: how a text is cleaned.
      start, end, pad: special tokens; None for no start, and for padding with 0.
    """

    files: tuple[str, ...]
    clean: Callable[[str], str]
    start: str | None
    end: str
    pad: str | None


STYLES = {
    "siglip": Style(("spiece.model", "sentencepiece.model"), canonical, None, "</s>", "</s>"),
    "siglip2": Style(
        ("tokenizer.json", "tokenizer.model", "gemma_tokenizer.model"),
        str.lower,
        None,
        "<eos>",
        "<pad>",
    ),
    "clip": Style(
        ("tokenizer.json", "vocab.json"), str.strip, "<|startoftext|>", "<|endoftext|>", None
    ),
}


class _Vocabulary(NamedTuple):
    encode: Callable[[list[str]], list[list[int]]]
    number: Callable[[str], int | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """What makes a text tower's input: list of str → int32 (texts, length).

    Attributes:
      encode: texts → the numbers of their tokens, without special ones.
      start: what each text begins with.
      end: the token that it ends with.
      pad: what fills its row.
      length: tokens a text.
    """

    encode: Callable[[Sequence[str]], list[list[int]]]
    start: tuple[int, ...]
    end: int
    pad: int
    length: int

    def __call__(self, texts: Sequence[str]) -> Int32[np.ndarray, "texts length"]:
        """Returns the texts' tokens."""
        tokens = np.full((len(texts), self.length), self.pad, np.int32)
        for row, found in zip(tokens, self.encode(texts), strict=True):
            whole = [*self.start, *found[: self._most], self.end]
            row[: len(whole)] = whole
        return tokens

    def cut(self, texts: Sequence[str]) -> list[str]:
        """Returns those texts that have more tokens than a row holds: their ends are not read."""
        encoded = zip(texts, self.encode(texts), strict=True)
        return [text for text, found in encoded if len(found) > self._most]

    @property
    def _most(self) -> int:
        return self.length - len(self.start) - 1


def load_tokenizer(source: str | Path, style: str, length: int) -> Tokenizer:
    """Returns what makes a text tower's input.

    Args:
      source: a file (sentencepiece's `.model`, Hugging Face's `tokenizer.json`, CLIP's `vocab.json`
        with `merges.txt` beside it), a folder that holds one, or a hub id
        ("org/name[@revision][:file]").
      style: a key of `STYLES`.
      length: tokens a text.

    Raises:
      ValueError: unknown style, no such file, a damaged one, or one of another style.
      ConnectionError: the hub cannot be reached; names the file to bring.
    """
    if style not in STYLES:
        raise ValueError(f"unknown tokenizer style {style!r}; valid styles: {', '.join(STYLES)}")
    rule = STYLES[style]
    path = _find(source, rule)
    vocabulary = (_sentencepiece if path.suffix == ".model" else _hugging_face)(path)

    def number(token: str) -> int:
        if (found := vocabulary.number(token)) is None:
            raise ValueError(
                f"tokenizer {path} has no token {token!r}; it is not of style {style!r}"
            )
        return found

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return vocabulary.encode([rule.clean(text) for text in texts])

    start = () if rule.start is None else (number(rule.start),)
    pad = 0 if rule.pad is None else number(rule.pad)
    return Tokenizer(encode, start, number(rule.end), pad, length)


def unreadable(tokenize: Tokenize, texts: Sequence[str]) -> list[str]:
    """Returns those texts of which the vocabulary has nothing; each would be embedded like an empty
    text.

    Args:
      tokenize: what `load_tokenizer` returns.
      texts: any number of str.

    Returns:
      Those that give no token beyond the ones that an empty text and a character of no alphabet
      give: start, end, padding, unknown.
    """
    tokens = tokenize([*texts, "", _OF_NO_ALPHABET])
    silent = np.all(np.isin(tokens, tokens[-2:]), axis=1)
    return [text for text, nothing in zip(texts, silent[:-2], strict=True) if nothing]


def beside(weights: Path, style: str) -> Path | None:
    """Returns the tokenizer in the folder of a weights file (or in the weights folder), or None."""
    folder = weights if weights.is_dir() else weights.parent
    return next((folder / name for name in STYLES[style].files if (folder / name).is_file()), None)


def absent(source: str | Path, style: str) -> str | None:
    """Returns a sentence where `load_tokenizer` would find no file, else None."""
    path = Path(source).expanduser()
    if path.is_dir():
        held = any((path / name).is_file() for name in STYLES[style].files)
        return None if held else _none_in(path, STYLES[style])
    return download.absent(_named(source, STYLES[style]), "tokenizer")


def _none_in(folder: Path, rule: Style) -> str:
    return f"folder {folder} holds no tokenizer; expected one of {', '.join(rule.files)}"


def _named(source: str | Path, rule: Style) -> str | Path:
    """What `locate` is asked for: of a hub id, the style's first file."""
    path = Path(source).expanduser()
    if not path.is_file() and path.suffix not in _SUFFIXES and ":" not in str(source):
        return f"{source}:{rule.files[0]}"
    return source


def _find(source: str | Path, rule: Style) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        for name in rule.files:
            if (path / name).is_file():
                return path / name
        raise ValueError(_none_in(path, rule))
    path = download.locate(_named(source, rule), "tokenizer")
    if path.suffix not in _SUFFIXES:
        raise ValueError(
            f"tokenizer file {path} has suffix {path.suffix!r}; "
            f"readable are {' and '.join(_SUFFIXES)}"
        )
    return path


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"tokenizer file {path} cannot be read, it may be damaged or truncated: "
        f"{str(error).splitlines()[0]}"
    )


def _sentencepiece(path: Path) -> _Vocabulary:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(path.read_bytes())
    except RuntimeError as error:
        raise _damaged(path, error) from error

    def number(token: str) -> int | None:
        found = model.piece_to_id(token)
        return found if model.id_to_piece(found) == token else None

    return _Vocabulary(model.encode, number)


def _hugging_face(path: Path) -> _Vocabulary:
    import tokenizers

    try:
        text = path.read_text(encoding="utf-8")
        held = json.loads(text)
    except ValueError as error:
        raise _damaged(path, error) from error
    if path.name == "vocab.json":
        model = _byte_pairs(path, held)
    elif isinstance(held, dict) and "model" in held:
        model = tokenizers.Tokenizer.from_str(text)
    else:
        raise ValueError(
            f"tokenizer file {path} is not a tokenizer of Hugging Face: it has no 'model'"
        )
    model.no_padding()
    model.no_truncation()

    def encode(texts: list[str]) -> list[list[int]]:
        return [found.ids for found in model.encode_batch(texts, add_special_tokens=False)]

    return _Vocabulary(encode, model.token_to_id)


def _byte_pairs(path: Path, vocabulary: dict[str, int]):
    """The tokenizer that transformers builds of CLIP's two files."""
    from transformers import CLIPTokenizer

    if not (beside := path.parent / "merges.txt").is_file():
        raise ValueError(f"{path} needs its merges.txt beside it")
    lines = beside.read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    # transformers declares `merges` list[str] and hands it to tokenizers' BPE, which takes pairs.
    pairs: Any = merges
    return CLIPTokenizer(vocab=vocabulary, merges=pairs).backend_tokenizer
