"""Runs the command line as `python -m ldm_export`."""

from ldm_export.cli.main import main

if __name__ == "__main__":
    main()
