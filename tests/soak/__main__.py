"""`python -m tests.soak --corpus […]` or `--mixed […]`: what follows goes to the soak that is named."""

from __future__ import annotations

import sys

from tests.soak import corpus, mixed

_SOAKS = {"--corpus": corpus.main, "--mixed": mixed.main}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in _SOAKS:
        sys.exit(
            f"usage: python -m tests.soak {{{' | '.join(_SOAKS)}}} [--short] […]; --help of each says more"
        )
    sys.exit(_SOAKS[sys.argv.pop(1)]())
