"""Passwords and secrets, kept as scrypt hashes.

A hash is `scrypt$<n>$<r>$<p>$<salt>$<key>`, so its cost can be raised later and old ones still verify. Hashing takes
about 50 ms of one core on purpose: it runs in a thread, and at most `AT_ONCE` at a time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets

N, R, P = 1 << 14, 8, 1
MEMORY = 64 << 20
LONGEST_PASSWORD = 1024
AT_ONCE = asyncio.Semaphore(2)
# Verified against when there is no such user, so that the answer takes as long as for one that exists.
NOBODY = f"scrypt${N}${R}${P}${base64.b64encode(b'0' * 16).decode()}${base64.b64encode(b'0' * 32).decode()}"


def hash_now(password: str) -> str:
    """The hash of a password, computed here and now."""
    salt = secrets.token_bytes(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=N, r=R, p=P, maxmem=MEMORY, dklen=32)
    return f"scrypt${N}${R}${P}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def verify_now(password: str, hashed: str) -> bool:
    """Whether a password has this hash. False for an empty hash: such a user cannot sign in by password."""
    parts = hashed.split("$")
    if len(parts) != 6 or parts[0] != "scrypt" or len(password) > LONGEST_PASSWORD:
        return False
    n, r, p = (int(part) for part in parts[1:4])
    salt, key = base64.b64decode(parts[4]), base64.b64decode(parts[5])
    found = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=MEMORY, dklen=len(key))
    return hmac.compare_digest(found, key)


async def hashed(password: str) -> str:
    async with AT_ONCE:
        return await asyncio.to_thread(hash_now, password)


async def verified(password: str, hash_: str) -> bool:
    async with AT_ONCE:
        return await asyncio.to_thread(verify_now, password, hash_)
