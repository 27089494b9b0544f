"""What a network needs and cannot be found: files, packages, tokenizers, looked for before anything
is downloaded, converted or compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxle.models import checkpoints, download, tokenizers
from jaxle.models.entry import preprocess_of
from jaxle.models.zoo import by_hub_id, find_entry


def lacking(
    name: str, weights: str | None = None, preprocess: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Yields a sentence for each thing that `load_model` would not find.

    Args:
      name, weights, preprocess: as of `load_model`.
    """
    found, asked = by_hub_id(name, weights)
    try:
        entry = find_entry(found, preprocess_of(preprocess) if preprocess else None)
    except ValueError as error:
        yield str(error)
        return
    asked = entry.weights if asked is None else asked
    if isinstance(asked, Mapping):
        return
    if not isinstance(asked, (str, Path)):
        yield f"model {name!r} has no default weights: expected a file"
        return
    if (sentence := download.absent(asked)) is not None:
        yield f"{name}: {sentence}"
    elif file := _file_name(asked):
        if (sentence := checkpoints.unreadable(file)) is not None:
            yield f"{name}: {sentence}"
    if (text := entry.text) is None:
        return
    local = Path(asked).expanduser()
    if local.exists() and tokenizers.beside(local, text.style) is not None:
        return
    if (sentence := tokenizers.absent(text.source, text.style)) is not None:
        yield f"{name}: {sentence}"


def _file_name(weights: str | Path) -> str | None:
    """The file that the weights are; None where a hub id leaves that open."""
    text = str(weights)
    if text.startswith(("https://", "http://")):
        return text.partition("#")[0].rsplit("/", 1)[-1]
    path = Path(text).expanduser()
    return str(path) if path.exists() else text.partition(":")[2] or None
