"""Whether what must be fetched can be: asked once, before a library tries again for minutes."""

from __future__ import annotations

import functools
import socket
import urllib.parse
import urllib.request

PATIENCE = 3.0  # seconds for a host to answer


def reachable(address: str) -> bool:
    """Returns whether the host of an address answers, or the proxy before it; once a process.

    Args:
      address: "https://host/path".
    """
    url = urllib.parse.urlsplit(address)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and url.hostname and not urllib.request.proxy_bypass(url.hostname):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return _answers(url.hostname or "", url.port or (80 if url.scheme == "http" else 443))


@functools.cache
def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), PATIENCE):
            return True
    except OSError:
        return False
