"""Where a checkpoint comes from: a local file or folder, a URL, or a hub id at a revision.

Files from URLs are kept under `$JAXLE_CACHE` (default `~/.cache/jaxle`), written under a temporary
name and renamed. A name that ends in eight or more hexadecimal digits before its suffix carries the
first digits of its sha256 (the convention of torch.hub, which torchvision's and the CIFAR files
follow) and is checked. `HF_HUB_OFFLINE=1` forbids every download, from URLs too.
"""

from __future__ import annotations

import contextlib
import errno
import http
import http.client
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from jaxle.hosts import reachable
from jaxle.models.checkpoints import SUFFIXES, shard_names, weights_hash
from jaxle.models.declared import CONFIG_FILES

_HUB_ID = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[\w./-]+))?"
)
ATTEMPTS, PAUSE = 4, 1.0  # connections of one download; seconds more between them each time
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
        with os.fdopen(descriptor, "wb") as file:
            _fetch(address, file)
            file.flush()
            os.fsync(file.fileno())
        _check(Path(temporary), digest, address)
        os.replace(temporary, path)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise ConnectionError(
            f"cannot download {address} ({error}): run the same command again, or {advice}"
        ) from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _fetch(address: str, file: IO[bytes]) -> None:
    """Writes what lies at an address; where a connection breaks, the next goes on from there."""
    failure: OSError | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * attempt)
        request = urllib.request.Request(address)
        if at := file.tell():
            request.add_header("Range", f"bytes={at}-")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                if at and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                    file.seek(0)  # a server that gives no ranges begins again
                    file.truncate()
                left = answer.headers.get("Content-Length")
                whole = None if left is None else file.tell() + int(left)
                while chunk := answer.read(1 << 20):
                    file.write(chunk)
            if whole is None or file.tell() == whole:
                return
            failure = ConnectionError(
                f"the connection broke after {file.tell()} of {whole} bytes, {ATTEMPTS} times"
            )
        except urllib.error.HTTPError:
            raise  # an answer: the next would be the same
        except http.client.HTTPException as error:
            failure = ConnectionError(f"the connection broke after {file.tell()} bytes ({error!r})")
        except (TimeoutError, ConnectionError, urllib.error.URLError) as error:
            if not file.tell():
                raise  # nothing came
            failure = error
    assert failure is not None, "an attempt that does not fail returns"
    raise failure


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
        except (_of_http(), OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise ConnectionError(
                f"the download of {name} from the hub's {repo} broke ({error}): run the same "
                f"command again, which goes on from there, or {_bring(repo, name, what)}"
            ) from error
    if unreachable:
        raise ConnectionError(_unreachable(repo, wanted[0], what)) from unreachable
    raise ValueError(f"hub repository {repo!r} holds none of {', '.join(wanted)}")


def _of_http() -> type[Exception]:
    """What the hub's library for HTTP raises; which library that is changes between versions."""
    from huggingface_hub import errors

    return errors.HfHubHTTPError.__bases__[0]


def _unreachable(repo: str, file: str, what: str) -> str:
    from huggingface_hub import constants

    why = "offline" if constants.HF_HUB_OFFLINE else "no network"
    return f"cannot reach the hub for {repo} ({why}): {_bring(repo, file, what)}"


def _bring(repo: str, file: str, what: str) -> str:
    use = f"pass its path as {what}"
    if what == "tokenizer":  # a config has no field for it
        use = "put it into the folder of the weights"
    return f"bring {file} from https://huggingface.co/{repo} and {use}"
