"""From text to token numbers, through each text tower's own tokenizer, from a local folder or the hub.

* SigLIP: lower case, punctuation removed, spaces collapsed, then its sentencepiece model, the end token (1) and padding with it to 64; as
  transformers' SiglipTokenizer and big_vision (`tokenize(max_len=64, eos="sticky", pad_value=1)` after its `canonicalize`) do.
* SigLIP 2: lower case, then Gemma's, padded to 64.
* CLIP: its own byte-pair encoding between start and end, padded to 77.
"""

import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

STYLES = ("siglip", "siglip2", "clip")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonical(text: str, style: str) -> str:
    """The text as the tokenizer of this style was trained to see it."""
    if style == "siglip":
        return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()
    return text.lower() if style == "siglip2" else text


def load_tokenizer(source: str | Path, style: str, length: int) -> Callable[[Sequence[str]], np.ndarray]:
    """Use it to make a text tower's input.

    Args:
      source: a folder with a tokenizer's files, a sentencepiece `.model` file, or a hub id ("org/name[@revision]").
      style: "siglip", "siglip2" or "clip".
      length: tokens a text; longer ones are cut, their last token the end token.

    Returns:
      list of str → int32 texts, length.

    Raises:
      ValueError: unknown style, or no tokenizer there. ConnectionError: the hub cannot be reached; names what to bring.
    """
    if style not in STYLES:
        raise ValueError(f"unknown tokenizer style {style!r}; valid styles: {', '.join(STYLES)}")
    encode = _sentencepiece(source, length) if str(source).endswith(".model") else _transformers(source, length)

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        tokens = np.asarray(encode([canonical(text, style) for text in texts]), np.int32)
        assert tokens.shape == (len(texts), length)
        return tokens

    return tokenize


def _sentencepiece(path: str | Path, length: int):
    try:
        import sentencepiece
    except ImportError as error:
        raise ImportError(f"{path} is a sentencepiece model: pip install sentencepiece, or give a folder with a tokenizer.json") from error
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    end = model.eos_id()

    def encode(texts: list[str]) -> list[list[int]]:
        return [(ids[: length - 1] + [end] * length)[:length] for ids in model.encode(texts)]

    return encode


def _transformers(source: str | Path, length: int):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder, revision = Path(source), None
    try:
        if folder.is_dir():
            if not (folder / "tokenizer_config.json").is_file() and (folder / "tokenizer.json").is_file():
                tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
            else:
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        else:
            name, _, revision = str(source).partition("@")
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main")
    except OSError as error:
        where = f"bring the tokenizer's files from https://huggingface.co/{source} into a folder and name it as `tokenizer`"
        if folder.is_dir():
            raise ValueError(f"folder {folder} holds no tokenizer that transformers can read ({str(error).splitlines()[0]})") from error
        raise ConnectionError(f"cannot load the tokenizer {source} (offline, or no such hub id): {where}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_attention_mask=False)["input_ids"]

    return encode
