"""Sign a bundle, and check who signed it, by OpenSSF Model Signing: any tool that knows its format can check a signature too.

The signature covers every file of the bundle's directory by its sha256. It lies beside the bundle, so that the bundle stays as it is.
"""

import os
from pathlib import Path

from ...errors import GateError, SourceError, UsageError
from ...manifest import read_checked

PASSWORD_VARIABLE = "HEADWAY_KEY_PASSWORD"
"""The environment variable with the password of a private key that has one."""

SUFFIX = ".sig"


def signature_of(bundle: Path) -> Path:
    """Return where the signature of a bundle lies if nothing else is said: beside it."""
    real = bundle.resolve()
    return real.with_name(f"{real.name}{SUFFIX}")


def sign(bundle: Path, key: Path, out: Path | None = None, *, force: bool = False) -> Path:
    """Sign all files of a bundle with a private key (PEM, elliptic curve); return the file of the signature.

    Raise SourceError where a file is missing or changed, UsageError for a key that cannot be used, or a signature that is there already.
    """
    from model_signing import signing

    read_checked(bundle)
    place = _outside(bundle, out or signature_of(bundle))
    if place.exists() and not force:
        raise UsageError(f"{place} exists; give --force to replace it, or another --out")
    _check_key(key)
    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key, password=password)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{key}: no private key that can sign ({error}): give a PEM file of an elliptic curve, as "
            f"`openssl ecparam -name prime256v1 -genkey -noout` writes it; {PASSWORD_VARIABLE} holds its password"
        ) from error
    part = place.with_name(f".{place.name}.part-{os.getpid()}")
    try:
        signer.sign(bundle, part)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return place


def check_signature(bundle: Path, key: Path, signature: Path | None = None) -> Path:
    """Raise GateError where a bundle is not just what the owner of a public key has signed; return the file of the signature.

    Raise SourceError where the bundle or the signature is missing or damaged, UsageError for a key that cannot be used.
    """
    from model_signing import verifying

    read_checked(bundle)
    place = signature or signature_of(bundle)
    if not place.is_file():
        raise SourceError(f"{place}: no such signature; headway sign writes one, or give --signature")
    _check_key(key)
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{key}: no public key ({error}): give its PEM file, as `openssl ec -pubout` writes it"
        ) from error
    try:
        verifier.verify(bundle, place)
    except Exception as error:  # the library raises errors of several others
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GateError(
            f"{bundle}: not what {place} was made for with the other half of {key} ({reason[:200]})"
        ) from error
    return place


def _check_key(key: Path) -> None:
    if not key.is_file():
        raise UsageError(f"{key}: no such file; give the PEM file of the key")


def _outside(bundle: Path, place: Path) -> Path:
    """Return the place of a signature. UsageError for one inside the bundle: the next signature would cover it."""
    if place.resolve().is_relative_to(bundle.resolve()):
        raise UsageError(f"{place}: a signature lies beside its bundle, not inside; give another --out")
    return place
