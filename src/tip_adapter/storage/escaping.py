"""Escape names of classes and files for each medium: names are data, never commands or markup."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from typing import Any

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories without a shape of their own, which steer a terminal, end a line or turn its direction."""

JOINERS = "\u200c\u200d"
"""Parts of words in Persian and Hindi, and of emoji: they stay."""

FORMULA = tuple("=+-@＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula, full-width forms among them."""

MARKUP = re.compile(r"[\\`*\[\]|~<&$@]|(?<!\w)_+|_+(?!\w)|:(?=//)|(?<=www)\.")
"""What Markdown obeys in the middle of a line; an underscore between letters is one."""

NOT_IN_PATHS = frozenset('/\\:*?"<>|%')
"""What some system does not allow in the name of a file or folder, and the sign for it."""

RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.IGNORECASE)
"""Names of devices on Windows."""

LONGEST_PART = 200
"""Bytes; systems allow 255, and photos have names, too."""


def for_terminal(text: str) -> str:
    r"""Show control characters, line breaks and direction overrides as escapes, so that a name stays on its line.

    Examples
    --------
    >>> print(for_terminal("red\x1b[2J\n"))
    red\x1b[2J\n
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def reason_of(error: BaseException, *, longest: int = 200) -> str:
    r"""Say on one line without a full stop, as far as it is of use, what an exception of another library says.

    Examples
    --------
    >>> print(reason_of(ValueError("no such\n  \x1b[31m thing")))
    no such \x1b[31m thing
    """
    reason = for_terminal(" ".join(str(error).split())).removesuffix(".") or type(error).__name__
    return reason if len(reason) <= longest else f"{reason[: longest - 1]}…"


def for_json(text: str) -> str:
    r"""Escape in JSON text what a terminal would obey; it stays the same JSON.

    Examples
    --------
    >>> print(for_json('["a\u202eb"]'))
    ["a\u202eb"]
    """
    if text.isprintable():
        return text
    return "".join(letter if letter == "\n" or not _is_hidden(letter) else _json_escape(letter) for letter in text)


def for_csv(value: Any) -> Any:
    """Keep a name on its line, and a spreadsheet from running it as a formula; numbers, as text too, stay numbers.

    Examples
    --------
    >>> for_csv("=1+1"), for_csv("-0.5"), for_csv(-0.5)
    ("'=1+1", '-0.5', -0.5)
    """
    if not isinstance(value, str):
        return value
    shown = for_terminal(value)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) and not _is_number(shown) else shown


def for_markdown(text: str) -> str:
    r"""Write a name so that Markdown shows it as it is: no markup, no HTML, no end of a table cell or line.

    Examples
    --------
    >>> print(for_markdown("sky_blue|b <i>"))
    sky_blue\|b \<i>
    """
    return MARKUP.sub(lambda found: "".join(f"\\{sign}" for sign in found[0]), for_terminal(text))


def for_html(text: str) -> str:
    """Write a name so that HTML shows it as it is, whatever its reading direction.

    Examples
    --------
    >>> for_html("<b>")
    '&lt;b&gt;'
    """
    return html.escape(for_terminal(text))


def for_path(text: str, *, taken: bool = False) -> str:
    r"""Write a name as one visible part of a path on every system, a file or folder; different names stay different.

    What a system obeys or forbids is written as `%` and the hexadecimal digits of its bytes; so is the first letter of
    a name that is reserved, or `taken` for something else.

    Examples
    --------
    >>> [for_path(name) for name in ("sky blue", "black/white", "..", "con", "50%")]
    ['sky blue', 'black%2Fwhite', '%2E%2E', '%63on', '50%25']
    """
    name = "".join(_as_bytes(letter) if letter in NOT_IN_PATHS or _is_hidden(letter) else letter for letter in text)
    if taken or name.startswith(".") or RESERVED.match(name):
        name = _as_bytes(name[0]) + name[1:] if name[0] != "%" else name
    if name.endswith((".", " ")):
        name = name[:-1] + _as_bytes(name[-1])
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) <= LONGEST_PART:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: LONGEST_PART - 17].decode('utf-8', 'ignore')}%{digest}"


def shortened(text: str, letters: int) -> str:
    """Shorten a name in its middle, because names that belong together begin or end alike.

    Examples
    --------
    >>> shortened("Tomato_Early_blight", 11)
    'Tomat…light'
    """
    shown = for_terminal(text)
    if len(shown) <= letters:
        return shown
    begin = letters // 2
    return f"{shown[:begin]}…{shown[len(shown) - (letters - 1 - begin) :]}"


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in HIDDEN and letter not in JOINERS


def _shown(letter: str) -> str:
    return letter.encode("unicode_escape").decode() if _is_hidden(letter) else letter


def _as_bytes(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogatepass"))


def _json_escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
