"""The key: made once, its owner's alone, and its public half verifies and no more."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedlens.review.contract import ReviewError
from fedlens.review.store import PublicKey, ReviewKey
from fedlens.review.store.signing import KEY_VARIABLE


def test_a_key_is_made_once_by_whoever_is_first(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "review.key"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: ReviewKey.load(path), range(16)))
    assert len({key.public.fingerprint for key in keys}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["review.key"]


def test_where_the_key_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert ReviewKey.load().path == tmp_path / "fedlens" / "review.key"
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "mine.key"))
    assert ReviewKey.load().path == tmp_path / "mine.key"


def test_the_public_half_verifies_what_another_library_call_signed(review_key: ReviewKey) -> None:
    private = serialization.load_pem_private_key(review_key.path.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    public = PublicKey.read(review_key.public.pem())
    assert public == review_key.public
    assert public.verify(private.sign(b"a message"), b"a message")
    assert public.verify(review_key.sign(b"a message"), b"a message")
    assert not public.verify(review_key.sign(b"a message"), b"another")
    assert not public.verify(b"", b"a message")
    assert len(public.fingerprint) == 32
    assert b"PRIVATE" not in public.pem()
    assert "private" not in repr(review_key).lower()


def test_a_seal_is_this_keys_and_this_messages(review_key: ReviewKey, tmp_path: Path) -> None:
    other = ReviewKey.load(tmp_path / "other.key")
    seal = review_key.seal(b"row")
    assert review_key.sealed(seal, b"row")
    assert not review_key.sealed(seal, b"row 2")
    assert not other.sealed(seal, b"row")
    assert not review_key.sealed("ü", b"row")


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    curve = ec.generate_private_key(ec.SECP256R1())
    contents = {
        "empty": b"",
        "junk": b"\xff" * 64,
        "long": b"x" * 5000,
        "curve": curve.private_bytes(pem, pkcs8, plain),
        "locked": Ed25519PrivateKey.generate().private_bytes(
            pem, pkcs8, serialization.BestAvailableEncryption(b"password")
        ),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ReviewError):
            ReviewKey.load(path)
    with pytest.raises(ReviewError):
        PublicKey.read(b"junk")
    public = rsa.generate_private_key(65537, 2048).public_key()
    with pytest.raises(ReviewError, match="Ed25519"):
        PublicKey.read(public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))


def test_a_key_that_anyone_may_read_is_refused(review_key: ReviewKey) -> None:
    review_key.path.chmod(0o644)
    with pytest.raises(ReviewError, match="Anyone on this machine"):
        ReviewKey.load(review_key.path)


def test_a_key_that_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReviewError, match=KEY_VARIABLE):
        ReviewKey.load(tmp_path / "file" / "review.key")
