"""Builds the notebooks and the hand-out from solutions/."""

import sys
from pathlib import Path

# jsonschema, which nbformat imports, would spend two seconds on a grammar of internationalized addresses.
sys.modules.setdefault("rfc3987_syntax", None)

ROOT = Path(__file__).parents[3]
"""The checkout, where solutions/ and chapters/ are; in an installed package there is neither."""
