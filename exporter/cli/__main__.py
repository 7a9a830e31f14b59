"""Run the command line as `python -m headway.exporter.cli`."""

from .app import main

main()
