"""The command line: one module for each group of verbs."""

import warnings


def main() -> None:
    """Run the command line from its old place, where scripts of the release before look for it."""
    from .app import main as run

    warnings.warn(
        "headway.exporter.cli:main will go with the next release: it is headway.exporter.cli.app:main",
        DeprecationWarning,
        stacklevel=2,
    )
    run()
