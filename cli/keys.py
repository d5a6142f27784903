"""Secrets that processes of one data directory share: `DATA/keys/<name>`, made on first use, for the owner only.

Every secret is 32 random bytes as URL-safe base64, which serves as a NATS password and as a Fernet key alike. Of two
processes that make the same secret at once, both get the first one's.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cli.errors import Stop


def secret(data: Path, name: str) -> str:
    path = data / "keys" / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(base64.urlsafe_b64encode(os.urandom(32)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise Stop(f"the secret {path} can not be made: {error.strerror}") from error
    finally:
        os.unlink(fresh)
    return path.read_text().strip()
