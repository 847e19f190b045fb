"""Makes the small robots of `tests/robots/small_models.py` importable by tests of robots."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "robots"))
