"""Puts this folder first on the path, so that a clone runs its own code."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
