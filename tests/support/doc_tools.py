"""docs/build.py and docs/claims.py as modules: docs/ is no package."""

import sys
from pathlib import Path
from unittest import mock

DOCS = Path(__file__).resolve().parents[2] / "docs"

with mock.patch.object(sys, "path", [str(DOCS), *sys.path]):
    import build
    import claims

__all__ = ["DOCS", "build", "claims"]
