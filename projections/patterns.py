"""What a pattern that a user gave means: an expression of RE2, and for names also the text as it is.

A name may hold every character, so a pattern of names that can not be read as an expression means the servers whose
names hold it, and one that can also means the server that is called just that. Every other pattern has to be an
expression. `checked` and `why_text` raise InvalidQuery for what is too long or too costly to be carried out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from projections.database import PatternError, compiled
from projections.query import MAX_PATTERN, InvalidQuery, NoExpression

# With a backslash before them they mean themselves, for RE2 and PostgreSQL alike.
_SPECIAL = re.compile(r"[\\.^$*+?()\[\]{}|]")
_TOO_COSTLY = "pattern too large"  # RE2's words: an expression, but not one to be carried out


def checked(key: str, pattern: str) -> str:
    """The pattern, which is an expression. Raises InvalidQuery."""
    why = _why_none(key, pattern)
    if why is not None:
        raise no_expression(key, why)
    return pattern


def why_text(name: str | None) -> str | None:
    """Why a pattern of names is no expression, so that it is meant as it is; None if it is one, or there is none."""
    return None if name is None else _why_none("name", name)


def no_expression(key: str, why: str) -> NoExpression:
    return NoExpression(f"{key!r} is no regular expression: {why}")


def literal(text: str) -> str:
    """The expression that finds a text, for either database."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def finder(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern of names finds a name."""
    if why_text(pattern) is not None:
        return lambda name: pattern in name
    search = compiled(pattern).search
    return lambda name: name == pattern or search(name) is not None


def _why_none(key: str, pattern: str) -> str | None:
    if len(pattern) > MAX_PATTERN:
        raise InvalidQuery(f"the pattern of {key!r} is longer than {MAX_PATTERN} characters")
    try:
        compiled(pattern)
    except PatternError as error:
        why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        if why.startswith(_TOO_COSTLY):
            raise InvalidQuery(f"the pattern of {key!r} takes too much memory: ask for less") from error
        return why
    return None
