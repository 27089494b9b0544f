"""Where weights come from: local paths, URLs with their sha256 checked, the hub, and clear words
where there is no network."""

import hashlib
import http.server
import threading

import pytest

from jaxle import hosts
from jaxle.models import download

DATA = b"weights" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


class Server(str):
    """Its address, and the range that each request for what breaks asked for."""

    asked: list


@pytest.fixture
def server(monkeypatch, tmp_path):
    """An HTTP server on this machine that answers DATA to every path but /absent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/breaks"):
                return self.breaks()
            self.send_response(404 if self.path == "/absent" else 200)
            if self.path == "/cut.pth":
                self.send_header("Content-Length", str(len(DATA) + 1))
            self.end_headers()
            self.wfile.write(b"" if self.path == "/absent" else DATA)

        def breaks(self):
            """Sends half of what is left, and hangs up; /breaks-ranges goes on where it stopped."""
            ranges, at = "ranges" in self.path, self.headers.get("Range")
            asked.append(at)
            first = int(at[len("bytes=") :].rstrip("-")) if at and ranges else 0
            data = DATA[first:]
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            last = len(asked) == 3
            self.wfile.write(data if last else data[: len(data) // 2])

        def log_message(self, *args):
            pass

    monkeypatch.setenv("JAXLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0)
    asked = []
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        address = Server(f"http://127.0.0.1:{running.server_port}/")
        address.asked = asked
        yield address
        running.shutdown()
        thread.join()


def cached(tmp_path):
    return sorted(file.name for file in (tmp_path / "cache").iterdir())


def test_a_url_is_fetched_once_and_checked_against_its_names_hash(server, tmp_path, monkeypatch):
    url = f"{server}net-{DIGEST[:8]}.pth"
    path = download.locate(url)
    assert path.read_bytes() == DATA and cached(tmp_path) == [f"net-{DIGEST[:8]}.pth"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download.locate(url) == path  # from the cache, no network needed
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"expected {DIGEST[:8]}"):
        download.locate(url)


def test_a_wrong_hash_leaves_nothing_behind(server, tmp_path):
    for url in (f"{server}net-00000000.pth", f"{server}net.pth#sha256={'0' * 64}"):
        with pytest.raises(ValueError, match=f"has sha256 {DIGEST}; expected 000"):
            download.locate(url)
    assert cached(tmp_path) == []
    assert download.locate(f"{server}net.pth#sha256={DIGEST}").name == "net.pth"


def test_offline_or_absent_names_the_file_to_bring(server, tmp_path, monkeypatch):
    with pytest.raises(
        ConnectionError, match="404.*bring the file from .*absent and pass its path as weights"
    ):
        download.locate(f"{server}absent")
    assert cached(tmp_path) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ConnectionError, match=r"offline \(HF_HUB_OFFLINE is set\): bring the file from .*net.pth"
    ):
        download.locate(f"{server}net.pth")


def test_a_broken_connection_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(
        ConnectionError,
        match=f"broke after {len(DATA)} of {len(DATA) + 1} bytes, 4 times.: run the same command "
        "again, or bring the file from .*cut.pth",
    ):
        download.locate(f"{server}cut.pth")
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    "name, asked",
    [
        ("breaks-ranges.pth", [None, "bytes=3500-", "bytes=5250-"]),
        ("breaks.pth", [None, "bytes=3500-", "bytes=3500-"]),
    ],
)
def test_a_broken_download_goes_on(server, name, asked):
    """From where it stopped, or from the beginning where the server gives no ranges."""
    assert download.locate(f"{server}{name}#sha256={DIGEST}").read_bytes() == DATA
    assert server.asked == asked


def a_hub(monkeypatch, tmp_path, files, offline=()):
    """hf_hub_download answered from a dict; names in `offline` are not reachable."""
    import huggingface_hub
    from huggingface_hub import errors

    def answer(repo, name, revision=None):
        if name in offline:
            raise errors.LocalEntryNotFoundError(name)
        if name not in files:
            raise errors.EntryNotFoundError(name)
        (tmp_path / name).write_bytes(files[name])
        asked.append((repo, name, revision))
        return str(tmp_path / name)

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    return asked


def test_hub_ids_with_dots_revisions_files_and_shards(monkeypatch, tmp_path):
    asked = a_hub(monkeypatch, tmp_path, {"model.safetensors": b"x", "other.bin": b"y"})
    assert download.locate("timm/vit_small_patch16_224.augreg_in21k").name == "model.safetensors"
    assert download.locate("org/name@abc123:other.bin").name == "other.bin"
    assert asked == [
        ("timm/vit_small_patch16_224.augreg_in21k", "model.safetensors", None),
        ("org/name", "other.bin", "abc123"),
    ]
    index = (
        b'{"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}}'
    )
    files = {
        "model.safetensors.index.json": index,
        "one.safetensors": b"1",
        "two.safetensors": b"2",
    }
    asked = a_hub(monkeypatch, tmp_path, files)
    assert download.locate("org/large") == tmp_path
    assert [name for _, name, _ in asked] == [
        "model.safetensors.index.json",
        "one.safetensors",
        "two.safetensors",
    ]
    a_hub(monkeypatch, tmp_path, {})
    with pytest.raises(ValueError, match="'org/empty' holds none of model.safetensors, "):
        download.locate("org/empty")


def test_a_hub_that_hangs_up_is_one_sentence(monkeypatch, tmp_path):
    """As its library for HTTP says it, and as the system does; a full disk is no broken network."""
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(error):
        def download_file(*_, **__):
            raise error

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download_file)

    message = (
        r"the download of model.safetensors from the hub's org/name broke \(peer hung up\): run "
        "the same command again, .*, or bring model.safetensors from https://huggingface.co/org/name"
    )
    for error in (errors.HfHubHTTPError.__bases__[0]("peer hung up"), OSError("peer hung up")):
        refuse(error)
        with pytest.raises(ConnectionError, match=message):
            download.locate("org/name")
    refuse(OSError(28, "No space left on device", "/x"))
    with pytest.raises(OSError, match="No space left") as found:
        download.locate("org/name")
    assert not isinstance(found.value, ConnectionError)


def test_offline_takes_whichever_file_is_in_the_cache(monkeypatch, tmp_path):
    a_hub(
        monkeypatch,
        tmp_path,
        {"pytorch_model.bin": b"x"},
        offline=("model.safetensors", "model.safetensors.index.json"),
    )
    assert download.locate("org/name").name == "pytorch_model.bin"


def test_a_hub_id_without_network_names_the_file_to_bring(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ConnectionError,
        match="some-org/some-model.*bring model.safetensors from "
        "https://huggingface.co/some-org/some-model",
    ):
        download.locate("some-org/some-model@abc123")


def test_a_gated_repository_says_what_to_accept(monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    class Gated(errors.GatedRepoError):
        def __init__(self):
            pass

    def gated(repo, name, revision=None):
        raise Gated

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", gated)
    message = (
        "hub repository 'facebook/dinov3-vitb16' is gated: accept its licence at "
        "https://huggingface.co/facebook/dinov3-vitb16 and log in .hf auth login., or bring "
        "model.safetensors from there and pass its path as weights"
    )
    with pytest.raises(ValueError, match=message):
        download.locate("facebook/dinov3-vitb16@abc")


def test_a_local_path_is_taken_as_it_is_and_an_absent_one_is_an_error(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"")
    assert download.locate(tmp_path / "w.npz") == tmp_path / "w.npz"
    with pytest.raises(
        ValueError,
        match="absent.npz do not exist; expected a file or folder, an https:// address, "
        "or a hub id",
    ):
        download.locate(tmp_path / "absent.npz")


def test_what_is_absent_is_known_without_a_download(server, tmp_path, monkeypatch):
    url = f"{server}net-{DIGEST[:8]}.pth"
    assert download.absent(url) is None and not (tmp_path / "cache").exists()
    monkeypatch.setattr(hosts, "_answers", lambda host, port: False)
    sentence = f"cannot reach {url}: bring the file from {url} and pass its path as weights"
    assert download.absent(url).startswith(sentence)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download.absent(url).startswith("offline (HF_HUB_OFFLINE is set): bring the file from")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"net-{DIGEST[:8]}.pth").write_bytes(DATA)
    assert download.absent(url) is None
    assert download.absent(tmp_path) is None and download.absent(__file__) is None
    assert download.absent("/nowhere/x.npz") == (
        "weights /nowhere/x.npz do not exist; expected a file or folder, an https:// address, "
        "or a hub id 'org/name@revision'"
    )


def test_what_the_hub_gave_before_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "_answers", lambda host, port: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    expected = "bring model.safetensors from https://huggingface.co/org/net and pass its path as"
    assert expected in download.absent("org/net@abc")
    kept = tmp_path / "models--org--net" / "snapshots" / "abc"
    kept.mkdir(parents=True)
    (kept / "pytorch_model.bin").touch()
    assert expected in download.absent("org/net@def")
    refs = tmp_path / "models--org--net" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert download.absent("org/net") is None


def test_a_host_is_asked_once_and_a_proxy_in_its_place(server, monkeypatch):
    hosts._answers.cache_clear()
    assert hosts.reachable(server) and hosts.reachable(f"{server}other")
    assert hosts._answers.cache_info().misses == 1
    assert not hosts.reachable("http://127.0.0.1:1/")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("https_proxy", server)
    assert hosts.reachable("https://no.such.host/file")
