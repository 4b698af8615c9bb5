"""The proxy that the environment names for an address: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, and NO_PROXY for exceptions.

Those of HTTP are used. One of another kind (SOCKS) is refused: to pass it over would go where the environment does not
want one to go, or wait for a server that cannot be reached.
"""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from urllib.parse import urlsplit

from harness import UsageError

_LOOPBACK = ("localhost", "0.0.0.0")
_KINDS = ("http", "https")


def proxy_for(url: str) -> str | None:
    """The address of the proxy; None where the way is direct, as it is to this machine. Raises UsageError."""
    parts = urlsplit(url)
    host = parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if host is None or _is_here(host) or _is_excepted(host, port):
        return None
    proxies = urllib.request.getproxies()
    name = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(name)
    if not proxy:
        return None
    variable = f"{name.upper()}_PROXY"
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    kind, place = proxy.partition("://")[0], shown_place(proxy)
    if kind.lower() not in _KINDS:
        raise UsageError(
            f"{variable}={kind}://{place}: a proxy of this kind is not spoken to, only those of HTTP: set "
            f"{parts.scheme.upper()}_PROXY=http://HOST:PORT (most SOCKS programs offer one), or NO_PROXY={host} to go "
            "without"
        )
    if not _is_place(proxy):
        raise UsageError(f"{variable}: '{place}' is no proxy: it is written http://HOST:PORT")
    return proxy


def shown_place(proxy: str) -> str:
    """A proxy's host and port, without the password that may stand before them."""
    return proxy.partition("://")[2].rpartition("@")[2].rstrip("/")


def _is_place(proxy: str) -> bool:
    """Whether an address has a host and, if any, a port."""
    try:
        parts = urlsplit(proxy)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_here(host: str) -> bool:
    address = _address(host)
    return host in _LOOPBACK or (address is not None and address.is_loopback)


def _is_excepted(host: str, port: int) -> bool:
    """Whether NO_PROXY names a host: by itself, with its port, by the end of its name, or by a block of addresses."""
    if urllib.request.proxy_bypass(host if ":" in host else f"{host}:{port}"):
        return True
    address = _address(host)
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return address is not None and any(address in block for block in map(_block, named.split(",")) if block is not None)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _block(named: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """`10.0.0.0/8`, or one address."""
    try:
        return ipaddress.ip_network(named.strip().strip("[]"), strict=False)
    except ValueError:
        return None
