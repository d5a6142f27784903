r"""Commits as every database can hold them: without null characters.

JSON can spell a null character in a string (`\u0000`), and PostgreSQL's text can hold none. The API takes none, but
old logs hold some, and what hosts and guests report may bring one. So what is folded has U+FFFD in its place, whatever
table it goes to and on both databases alike. The log itself stays as it is.
"""

from __future__ import annotations

import re

from eventlog.envelope import Commit, Recorded, decode, subject_of

_SPELLING = rb"\u0000"
# JSON has backslashes in strings only, and there each begins an escape: one that is escaped itself spells nothing.
_ESCAPES = re.compile(rb"\\(?:u0000|.)", re.DOTALL)
_REPLACEMENT = "\ufffd".encode()


def without_nulls(raw: bytes) -> bytes:
    """The same JSON with U+FFFD for every null character; the very same bytes where there is none."""
    # Most commits have no backslash, and looking for one byte is far cheaper than looking for six.
    if b"\\" not in raw or _SPELLING not in raw:
        return raw
    return _ESCAPES.sub(lambda found: _REPLACEMENT if found[0] == _SPELLING else found[0], raw)


def commit_without_nulls(recorded: Recorded) -> Commit:
    raw = without_nulls(recorded.raw)
    if raw is recorded.raw:
        return recorded.commit
    return decode(recorded.position, subject_of(recorded.commit.kind, recorded.commit.id), raw).commit
