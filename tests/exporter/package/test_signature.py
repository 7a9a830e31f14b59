"""Signatures: what was signed is accepted, and anything else is not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headway.errors import GateError, SourceError, UsageError
from headway.exporter.export import Exported
from headway.exporter.package.signature import check_signature, sign, signature_of
from headway.manifest import MANIFEST, digest

pytest.importorskip("model_signing", reason="the extra sign is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a private key and its public one."""
    return write_keys(tmp_path_factory.mktemp("keys"))


def write_keys(folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key: Any = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    private, public = folder / "private.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def bundle(sentence_bundle: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sentence_bundle.path, tmp_path / "bundle"))


def test_what_was_signed_is_accepted(bundle: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    place = sign(bundle, private)
    assert place == bundle.with_name("bundle.sig") == signature_of(bundle) == check_signature(bundle, public)
    with pytest.raises(UsageError, match="--force"):
        sign(bundle, private)
    assert sign(bundle, private, force=True) == place
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["bundle", "bundle.sig"]


def test_another_key_or_bundle_is_not(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    sign(bundle, private)
    (tmp_path / "other").mkdir()
    _, stranger = write_keys(tmp_path / "other")
    with pytest.raises(GateError, match="not what"):
        check_signature(bundle, stranger)
    (bundle / "added.txt").write_text("a file more")
    with pytest.raises(GateError, match="not what"):
        check_signature(bundle, public)
    (bundle / "added.txt").unlink()
    config = bundle / "config.json"
    config.write_bytes(config.read_bytes().replace(b"0", b"1", 1))
    raw = json.loads((bundle / MANIFEST).read_text())  # a forger changes the checksum as well
    raw["files"]["config.json"]["sha256"] = digest(config)
    (bundle / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(GateError, match="not what"):
        check_signature(bundle, public)


def test_what_cannot_be_used_is_named(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    with pytest.raises(SourceError, match="no such signature"):
        check_signature(bundle, public)
    with pytest.raises(UsageError, match="no such file"):
        sign(bundle, tmp_path / "none.pem")
    with pytest.raises(UsageError, match="beside its bundle"):
        sign(bundle, private, bundle / "inside.sig")
    (tmp_path / "bad.pem").write_text("no key")
    with pytest.raises(UsageError, match="no private key"):
        sign(bundle, tmp_path / "bad.pem")
    place = sign(bundle, private)
    with pytest.raises(UsageError, match="no public key"):
        check_signature(bundle, tmp_path / "bad.pem")
    place.write_text("{}")
    with pytest.raises(GateError, match="not what"):
        check_signature(bundle, public)
