"""Addresses of live pictures: webcams by their index, network streams by their URL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from utils.errors import UsageError, did_you_mean

SCHEMES = ("rtsp", "rtmp", "http", "https")
_LONGEST_NAME = 80


@dataclass(frozen=True)
class LiveSource:
    """A webcam or a network stream.

    Attributes:
        address: index of the webcam, or URL.
        name: for files and messages: unique among the sources of a run, of letters, digits, ``-`` and ``_`` alone.
    """

    address: str
    name: str

    @property
    def is_webcam(self) -> bool:
        """Whether the address is the index of a webcam."""
        return _is_index(self.address)

    @property
    def is_file_server(self) -> bool:
        """Whether a recording of finite length may lie behind the address."""
        return self.address.startswith(("http:", "https:"))

    @property
    def shown(self) -> str:
        """The address for messages, without the passwords and keys that it may hold."""
        return f"webcam {self.address}" if self.is_webcam else _without_secrets(self.address)


def is_live_address(text: str) -> bool:
    """Return whether a source is meant as a webcam or a URL rather than as a file."""
    return _is_index(text) or "://" in text


def live_sources(addresses: Iterable[str]) -> list[LiveSource]:
    """Give every address a name of its own; an address that comes again is left out.

    Args:
        addresses: indices of webcams and URLs.

    Raises:
        UsageError: a URL is of an unknown kind, or names no host.
    """
    taken: set[str] = set()
    found = []
    for address in dict.fromkeys(_checked(address) for address in addresses):
        stem = name = _name_of(address)
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        found.append(LiveSource(address, name))
    return found


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _checked(address: str) -> str:
    """Return the address with its scheme in small letters, as FFmpeg wants it."""
    if _is_index(address):
        return str(int(address))
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    shown = _without_secrets(address)
    if scheme not in SCHEMES:
        raise UsageError(
            f"{shown}: streams begin with {', '.join(f'{known}://' for known in SCHEMES)}; a file is given as "
            f"a path.{did_you_mean(scheme, SCHEMES)}"
        )
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host:
        raise UsageError(f"{shown}: the address names no host; write {scheme}://HOST[:PORT]/PATH")
    return f"{scheme}://{rest}"


def _without_secrets(address: str) -> str:
    """Return a URL without user, password and query, which end up in logs otherwise."""
    scheme, mark, rest = address.partition("://")
    place, question, _ = rest.partition("?")
    host, slash, path = place.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}{'?...' if question else ''}"


def _name_of(address: str) -> str:
    """Return host, port and path of a URL in the letters that every file system takes; ``webcam0`` of an index."""
    if _is_index(address):
        return f"webcam{address}"
    place = _without_secrets(address).partition("://")[2].partition("?")[0]
    # No dots: what follows one would count as the suffix of a file.
    name = re.sub(r"[^A-Za-z0-9_]+", "-", place.replace("/", "_")).strip("-_")
    return name[:_LONGEST_NAME] or "stream"
