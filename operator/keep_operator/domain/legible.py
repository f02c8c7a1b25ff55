"""Text in which nothing is hidden: what nobody sees, what turns its neighbours around, and what a terminal obeys is written out.

With such characters a definition reads as another one than runs, and a line of a log draws over the screen of who reads it. What joins
letters of scripts that are joined, and pictures, stays; so do tabs and the ends of lines.
"""

import re
from typing import Final

_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]|(?:(?<=[\x00-\x7f])|^)[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f]|$)"
)


def legible(text: str) -> str:
    """The same text, with each such character as its escape in JSON: ``\\u202e``."""
    return text if text.isascii() and text.isprintable() else _UNSEEN.sub(lambda found: _written_out(found[0]), text)


def _written_out(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
