"""Text from records and names, made safe for Markdown."""

from __future__ import annotations

import html
import re
from typing import Any

LONGEST = 200
MISSING = "–"
_MARKDOWN = re.compile(r"([\\`*_\[\]#|~$^@])")


def markdown(value: Any) -> str:
    """Return a value as Markdown text that is shown as it is: no tags, links, emphasis, code or line breaks.

    Args:
        value: of a record, or a name; None is shown as a dash. Long texts are cut after `LONGEST` characters.
    """
    if value is None:
        return MISSING
    text = " ".join(str(value).encode("utf-8", "backslashreplace").decode().split())
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    text = text[:LONGEST] + "…" * (len(text) > LONGEST)
    # An entity breaks up what GitHub and the hub would make a link.
    return html.escape(_MARKDOWN.sub(r"\\\1", text), quote=False).replace("://", "&#58;//").replace("www.", "www&#46;")


def plain(value: Any) -> str:
    """Return a value as one line of text for YAML, whose writer quotes what it must."""
    text = " ".join(str(value).encode("utf-8", "backslashreplace").decode().split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)[
        :LONGEST
    ]
