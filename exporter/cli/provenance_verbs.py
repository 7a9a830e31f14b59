"""`headway pack`, `unpack`, `sign` and `bom`: a bundle as one file, who made it, and what is in it."""

from pathlib import Path
from typing import Annotated

import typer

from ...errors import UsageError
from .. import api
from . import options as o
from .shared import console, print_json

_ArchiveOut = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="File of the archive, as model.tar; model.tar.gz is compressed.",
        rich_help_panel=o.OUTPUT,
    ),
]
_Archive = Annotated[Path, typer.Argument(metavar="ARCHIVE", help="File that headway pack wrote.")]
_PrivateKey = Annotated[
    Path,
    typer.Option(
        "--key",
        metavar="FILE",
        help="Private key: PEM, elliptic curve. HEADWAY_KEY_PASSWORD holds its password.",
        rich_help_panel=o.SOURCE,
    ),
]
_SignatureOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="File of the signature; BUNDLE.sig where not given.",
        rich_help_panel=o.OUTPUT,
    ),
]
_BillOut = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE", help="File to write; printed where not given.", rich_help_panel=o.OUTPUT
    ),
]


def pack(
    bundle: o.Bundle, out: _ArchiveOut, force: o.Force = False, quiet: o.Quiet = False, as_json: o.Json = False
) -> None:
    """Pack BUNDLE into one file; the same bundle gives the same bytes."""
    with api.needs("export"):
        from ..package.archive import pack as run
    size = run(bundle, out, force=force)
    if as_json:
        print_json({"path": str(out), "bytes": size})
    elif not quiet:
        console().print(f"{size / 1e6:9.3f} MB  {out}", soft_wrap=True)


def unpack(
    archive: _Archive, out: o.Out, force: o.Force = False, quiet: o.Quiet = False, as_json: o.Json = False
) -> None:
    """Unpack ARCHIVE into a bundle, and compare all files with their checksums."""
    with api.needs("export"):
        from ..package.archive import unpack as run
    manifest = run(archive, out, force=force)
    if as_json:
        print_json({"path": str(out), "task": manifest.task, "target": manifest.target, "files": len(manifest.files)})
    elif not quiet:
        console().print(
            f"{out}: {manifest.task}, target {manifest.target}, {len(manifest.files)} files", soft_wrap=True
        )


def sign(
    bundle: o.Bundle,
    key: _PrivateKey,
    out: _SignatureOut = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Sign all files of BUNDLE, so that verify --key can tell who made it."""
    with api.needs("sign"):
        import model_signing  # noqa: F401

        from ..package.signature import sign as run
    place = run(bundle, key, out, force=force)
    if as_json:
        print_json({"signature": str(place)})
    elif not quiet:
        console().print(str(place), soft_wrap=True)


def bom(bundle: o.Bundle, out: _BillOut = None, force: o.Force = False) -> None:
    """Write the bill of materials of BUNDLE: CycloneDX 1.6, with files, libraries, licenses and a model card."""
    with api.needs("export"):
        from ..package.ml_bom import bill_text
        from ..publish.writing import written
    text = bill_text(bundle)
    if out is None:
        print(text, end="")
    elif out.exists() and not force:
        raise UsageError(f"{out} exists; give --force to replace it, or another --out")
    else:
        with written(out):
            out.write_text(text, encoding="utf-8")
