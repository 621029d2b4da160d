"""What noxfile.py and scripts/suite.py share."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
"""The Pythons that zloop supports."""
