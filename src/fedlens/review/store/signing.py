"""The key that signs the trail, and its public half, which verifies and cannot sign."""

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedlens.errors import RunError
from fedlens.files import make_once, read_bytes
from fedlens.review.contract import ReviewError

KEY_VARIABLE = "FEDLENS_REVIEW_KEY"
LARGEST_KEY_FILE = 4096
ANYONE = 0o007


@dataclass(frozen=True)
class PublicKey:
    """What an auditor needs: it verifies, and cannot sign.

    Attributes:
        raw: the 32 bytes of an Ed25519 public key.
    """

    raw: bytes

    @classmethod
    def read(cls, pem: bytes) -> "PublicKey":
        """Return the key in a PEM text.

        Raises:
            ReviewError: it is no Ed25519 public key.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, TypeError) as error:
            raise ReviewError("The file is not a public key in PEM.") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ReviewError("The public key is of another kind, expected Ed25519.")
        return cls(key.public_bytes_raw())

    @property
    def fingerprint(self) -> str:
        """Return 32 hexadecimal digits that tell keys apart."""
        return hashlib.sha256(b"fedlens review key" + self.raw).hexdigest()[:32]

    def pem(self) -> bytes:
        """Return the key as PEM text."""
        return Ed25519PublicKey.from_public_bytes(self.raw).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether the signature of the message was made with this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class ReviewKey:
    """The key that signs the trail of this machine's consoles.

    Attributes:
        path: file that it was read from, beside which anchors are kept.
    """

    path: Path
    _private: Ed25519PrivateKey = field(repr=False)
    _rows: bytes = field(repr=False)

    @classmethod
    def load(cls, path: Path | None = None, *, make: bool = True) -> "ReviewKey":
        """Return the key; it is made, readable by its owner alone, when first asked for.

        Args:
            path: its file; by default the one that ``$FEDLENS_REVIEW_KEY`` names, or ``review.key``
                in the user's configuration folder.
            make: make it where there is none; else that is refused.

        Raises:
            ReviewError: the file cannot be made or read, is not a key, or anyone may read it.
        """
        path = path or _default_path()
        if not make and not path.exists():
            raise ReviewError(
                f"There is no key {path} on this machine, so that nothing here was signed with it; "
                "to verify what was signed elsewhere, give the public key from there."
            )
        try:
            make_once(path, _new_key())
            open_to_all = path.stat().st_mode & ANYONE
            content = read_bytes(path, LARGEST_KEY_FILE)
        except OSError as error:
            raise ReviewError(
                f"Could not make the key of the review trail, {path}: {error.strerror or error}; name "
                f"a file that you may write in ${KEY_VARIABLE}."
            ) from error
        except RunError as error:
            raise ReviewError(str(error)) from error
        if open_to_all:
            raise ReviewError(
                f"Anyone on this machine may read or change the key {path}, and so forge the trail; "
                "take their permissions away (chmod 600)."
            )
        try:
            private = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError) as error:
            raise ReviewError(f"{path} is not a private key in PEM without a password.") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ReviewError(f"{path} holds a key of another kind, expected Ed25519.")
        rows = HKDF(hashes.SHA256(), 32, salt=None, info=b"fedlens review rows")
        return cls(path, private, rows.derive(private.private_bytes_raw()))

    @property
    def public(self) -> PublicKey:
        """Return the half that verifies."""
        return PublicKey(self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of a message, 64 bytes."""
        return self._private.sign(message)

    def seal(self, message: bytes) -> str:
        """Return a keyed digest (64 hexadecimal digits) that only who has the key can make or check.

        It is for rows that the console itself reads back (people, sessions), where a signature
        for others is of no use.
        """
        return hmac.new(self._rows, message, hashlib.sha256).hexdigest()

    def sealed(self, seal: str, message: bytes) -> bool:
        """Return whether a seal is this message's."""
        given = seal.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(given, self.seal(message).encode())


def _default_path() -> Path:
    named = os.environ.get(KEY_VARIABLE)
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fedlens"
    return Path(named) if named else folder / "review.key"


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
