"""Where a checkpoint comes from: a local file or folder, a URL, or a hub id at a revision.

Files from URLs are kept under `$JAXLE_CACHE` (default `~/.cache/jaxle`), written under a temporary
name and renamed. A name that ends in eight or more hexadecimal digits before its suffix carries the
first digits of its sha256 (the convention of torch.hub, which torchvision's and the CIFAR files
follow) and is checked. `HF_HUB_OFFLINE=1` forbids every download, from URLs too.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from jaxle.hosts import reachable
from jaxle.models.checkpoints import SUFFIXES, shard_names, weights_hash
from jaxle.models.declared import CONFIG_FILES

_HUB_ID = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[\w./-]+))?"
)
_HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)


def locate(weights: str | Path, what: str = "weights", beside: Sequence[str] = ()) -> Path:
    """Returns the local path of what a config names as weights, downloaded where needed.

    Args:
      weights: a file or folder; "https://…" (optionally with "#sha256=<hex>");
        "org/name[@revision][:file]" on the hub.
      what: what an error calls it.
      beside: names of files to fetch with a file of the hub, those that its folder has.

    Raises:
      ValueError: it does not exist, or its hash differs.
      ConnectionError: it cannot be fetched; names the file to bring.
    """
    text = str(weights)
    if text.startswith(("https://", "http://")):
        return _from_url(text, what)
    path = Path(text).expanduser()
    if path.exists():
        return path
    if match := _hub_id(text):
        return _from_hub(**match.groupdict(), what=what, beside=beside)
    raise ValueError(_nowhere(text, what))


def absent(weights: str | Path, what: str = "weights") -> str | None:
    """Returns a sentence where `locate` would find nothing, else None; nothing is downloaded.

    What must be fetched counts as found where its host answers within three seconds.

    Args:
      weights, what: as of `locate`.
    """
    text = str(weights)
    if text.startswith(("https://", "http://")):
        address, _, path = _place_of(text)
        if path.exists() or (not _offline() and reachable(address)):
            return None
        why = "offline (HF_HUB_OFFLINE is set)" if _offline() else f"cannot reach {address}"
        return f"{why}: {_advice(address, path, what)}"
    if Path(text).expanduser().exists():
        return None
    if (match := _hub_id(text)) is None:
        return _nowhere(text, what)
    from huggingface_hub import constants, try_to_load_from_cache

    repo, revision, file = match["repo"], match["revision"], match["file"]
    wanted = (file,) if file else _HUB_FILES
    held = (try_to_load_from_cache(repo, name, revision=revision) for name in wanted)
    if any(isinstance(path, str) for path in held):
        return None
    if not constants.HF_HUB_OFFLINE and reachable(constants.ENDPOINT):
        return None
    return _unreachable(repo, wanted[0], what)


def _hub_id(text: str) -> re.Match | None:
    match = _HUB_ID.fullmatch(text)
    return match if match and (match["file"] or Path(text).suffix not in SUFFIXES) else None


def _nowhere(text: str, what: str) -> str:
    return (
        f"{what} {text} {'do' if what.endswith('s') else 'does'} not exist; expected a file or "
        "folder, an https:// address, or a hub id 'org/name@revision'"
    )


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def _place_of(url: str) -> tuple[str, str, Path]:
    """Address, sha256 or its first digits, and where the file is kept."""
    address, _, digest = url.partition("#sha256=")
    name = address.rsplit("/", 1)[-1]
    if not digest and (match := re.search(r"-([0-9a-f]{8,64})\.\w+$", name)):
        digest = match.group(1)
    folder = Path(os.environ.get("JAXLE_CACHE", "~/.cache/jaxle")).expanduser()
    return address, digest, folder / name


def _advice(address: str, path: Path, what: str) -> str:
    return f"bring the file from {address} and pass its path as {what}, or put it at {path}"


def _from_url(url: str, what: str) -> Path:
    address, digest, path = _place_of(url)
    if path.exists():
        _check(path, digest, f"{path} (delete it to download {address} again)")
        return path
    advice = _advice(address, path, what)
    if _offline():
        raise ConnectionError(f"offline (HF_HUB_OFFLINE is set): {advice}")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            urllib.request.urlopen(address, timeout=60) as answer,
        ):
            while chunk := answer.read(1 << 20):
                file.write(chunk)
            length = answer.headers.get("Content-Length")
            if length is not None and file.tell() != int(length):
                raise ConnectionError(f"the connection broke after {file.tell()} of {length} bytes")
            file.flush()
            os.fsync(file.fileno())
        _check(Path(temporary), digest, address)
        os.replace(temporary, path)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ConnectionError(f"cannot download {address} ({error}): {advice}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _check(path: Path, digest: str, name: str) -> None:
    found = weights_hash(path)
    if not found.startswith(digest):
        raise ValueError(
            f"{name} has sha256 {found}; expected {digest}: the file is damaged or another one"
        )


def _from_hub(
    repo: str, revision: str | None, file: str | None, what: str, beside: Sequence[str]
) -> Path:
    from huggingface_hub import errors, hf_hub_download

    wanted, unreachable = (file,) if file else _HUB_FILES, None
    for name in wanted:
        try:
            path = Path(hf_hub_download(repo, name, revision=revision))
            folder, slash, _ = name.rpartition("/")
            for config in beside if file else CONFIG_FILES:
                with contextlib.suppress(errors.EntryNotFoundError, errors.LocalEntryNotFoundError):
                    hf_hub_download(repo, folder + slash + config, revision=revision)
            if name.endswith(".index.json"):  # the tensors lie in shards beside it
                for shard in shard_names(path):
                    hf_hub_download(repo, shard, revision=revision)
                return path.parent
            return path
        except errors.LocalEntryNotFoundError as error:
            unreachable = error
        except errors.EntryNotFoundError:
            continue
        except errors.GatedRepoError as error:
            raise ValueError(
                f"hub repository {repo!r} is gated: accept its licence at "
                f"https://huggingface.co/{repo} and log in (hf auth login), or bring {name} from "
                f"there and pass its path as {what}"
            ) from error
        except errors.HfHubHTTPError as error:
            raise ValueError(
                f"hub id {repo!r} at revision {revision or 'main'!r}: {str(error).splitlines()[0]}"
            ) from error
    if unreachable:
        raise ConnectionError(_unreachable(repo, wanted[0], what)) from unreachable
    raise ValueError(f"hub repository {repo!r} holds none of {', '.join(wanted)}")


def _unreachable(repo: str, file: str, what: str) -> str:
    from huggingface_hub import constants

    use = f"pass its path as {what}"
    if what == "tokenizer":  # a config has no field for it
        use = "put it into the folder of the weights"
    return (
        f"cannot reach the hub for {repo} "
        f"({'offline' if constants.HF_HUB_OFFLINE else 'no network'}): "
        f"bring {file} from https://huggingface.co/{repo} and {use}"
    )
