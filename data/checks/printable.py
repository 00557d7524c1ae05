"""Names of files as text that any terminal and any page can show."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text with every character that cannot be printed, such as a line break in a name, as an escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
