"""`python -m tests.soak --corpus […]`: what follows goes to the soak that is named."""

from __future__ import annotations

import sys

from tests.soak import corpus

if __name__ == "__main__":
    if sys.argv[1:2] != ["--corpus"]:
        sys.exit(
            "usage: python -m tests.soak --corpus [--short] [--times N] [--at-once N] [--max-megapixels N]"
        )
    del sys.argv[1]
    sys.exit(corpus.main())
