"""What the scripts that write pages share: parts between marks, and `--check`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def with_parts(page: str, parts: Mapping[str, str], script: str) -> str:
    """The page with what stands between each part's two marks anew. Raises ValueError where it lacks them."""
    for name, text in parts.items():
        begin, end = f"<!-- {name}, by scripts/{script} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the page has no marks for {name}, by {script}")
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


def write_or_check(about: str | None, outputs: Mapping[Path, str]) -> int:
    """Write what is not as it should be; with `--check` only say so. The exit status."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    check = parser.parse_args().check
    stale = [path for path, text in outputs.items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        if not check:
            path.write_text(outputs[path])
        print(f"{path.relative_to(REPO)} {'is not what the JSON gives: make docs' if check else 'written'}")
    return 1 if check and stale else 0
