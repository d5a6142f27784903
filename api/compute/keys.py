"""SSH key pairs: reading public keys, making new ones, finding a user's."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import cast
from uuid import NAMESPACE_OID, uuid5

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import load_pem_x509_certificate

from api.compute.call import Call
from domain.errors import Invalid
from domain.resources import Keypair

RSA_BITS = 2048


def keypair_id(user_id: str, name: str) -> str:
    """The id of a user's key pair of this name: two creates at once cannot both succeed."""
    return str(uuid5(NAMESPACE_OID, f"keypair:{user_id}:{name}"))


async def public_key_of(call: Call, name: str, user_id: str) -> str:
    """The public key of a user's key pair. Raises `Invalid` when there is none, as for creating or rebuilding."""
    found = await call.services.read.resource("keypair", keypair_id(user_id, name))
    if found is None or found.deleted:
        raise Invalid("Invalid key_name provided.", hint=f"The user has no key pair named {name}.")
    return cast("Keypair", found).public_key


def ssh_fingerprint(public_key: str) -> str:
    """The MD5 fingerprint that compute clients know. Raises `Invalid` for what is not an OpenSSH public key."""
    try:
        serialization.load_ssh_public_key(public_key.encode())
        blob = base64.b64decode(public_key.split()[1])
    except (ValueError, IndexError, binascii.Error, UnsupportedAlgorithm) as error:
        raise Invalid(
            "Keypair data is invalid: failed to generate fingerprint",
            hint='Send one line such as "ssh-ed25519 AAAA...".',
        ) from error
    return _colons(hashlib.md5(blob, usedforsecurity=False).hexdigest())


def x509_fingerprint(certificate: str) -> str:
    try:
        digest = load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA1())
    except ValueError as error:
        raise Invalid("Keypair data is invalid: failed to generate X509 fingerprint.") from error
    return _colons(digest.hex())


def _colons(digest: str) -> str:
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def generate() -> tuple[str, str]:
    """A new key pair: the private key (PEM) and the public one (one line)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} Generated-by-chronova"
