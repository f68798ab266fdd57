"""By which names a console may be called: what a request calls it by else is refused.

A page elsewhere could have its own name lead to this machine (DNS rebinding), and would then be read as
part of the console.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fedlens.errors import RunError

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True)
class Naming:
    """How a console is called.

    Attributes:
        hosts: names and addresses that browsers may call it by beside those of loopback, as they
            stand in a request.
        address: the URL at which it is, without a slash at the end.
    """

    hosts: tuple[str, ...]
    address: str


def naming(host: str, port: int, names: Sequence[str], *, certificate: bool, proxy: bool) -> Naming:
    """Return by which names a console is called.

    Args:
        host: what it listens on.
        port: that it listens on.
        names: given by whoever serves it; the first stands in its address.
        certificate: it has TLS itself.
        proxy: a proxy in front of it has TLS.

    Raises:
        RunError: a name is none; or no name is known that would be answered; or other machines reach
            it without TLS.
    """
    known = [as_requested(name) for name in names]
    own = _own(host)
    if certificate and proxy:
        raise RunError(
            "TLS is the console's (--certificate) or a proxy's (--behind-proxy): choose."
        )
    if proxy and not _is_loopback(host):
        raise RunError(f"--behind-proxy listens for a proxy on this machine alone, not on {host}.")
    if not certificate and not _is_loopback(host):
        raise RunError(
            f"{host} is reached from other machines, where passwords and images need TLS: give "
            "--certificate and --certificate-key, or serve 127.0.0.1 with --behind-proxy."
        )
    if proxy and not known:
        raise RunError(
            "Behind a proxy, browsers call the console by the proxy's name: give it with --name."
        )
    if own is None and not known:
        raise RunError(
            f"{host} stands for every address of this machine and is no name: give --name with what "
            "browsers call the console by, such as review.example.org."
        )
    hosts = tuple(dict.fromkeys([*known, *([] if own is None else [own])]))
    scheme = "https" if certificate or proxy else "http"
    here = own if own is not None and _is_loopback(host) and not proxy else hosts[0]
    return Naming(hosts, f"{scheme}://{here}" + ("" if proxy else f":{port}"))


def as_requested(name: str) -> str:
    """Return a host name or address as it stands in a request.

    Raises:
        RunError: it is neither.
    """
    bare = name.strip().removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        pass
    else:
        return f"[{address.compressed}]" if address.version == 6 else str(address)
    try:
        plain = bare.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        plain = ""
    if not _HOST_NAME.fullmatch(plain):
        raise RunError(
            f"'{name}' is not a host name, expected one without https:// and port, such as "
            "review.example.org."
        )
    return plain


def _own(host: str) -> str | None:
    """Return what a console that listens on ``host`` is called by; None where that is not one."""
    name = as_requested(host)
    return None if name in ("0.0.0.0", "[::]") else name


def _is_loopback(host: str) -> bool:
    from fedlens.review.web.serving import is_loopback

    return is_loopback(host)
