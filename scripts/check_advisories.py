"""Whether an installed package has a known weakness, by pip-audit: `check_advisories.py`.

Where no index with advisories can be reached, it says so and ends well: nothing was found out.
"""

from __future__ import annotations

import json
import subprocess
import sys

_LONGEST_SECONDS = 300.0


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_SECONDS, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("advisories: skipped, no index with advisories answers")
        return 0
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        print(f"advisories: skipped, the index knows none of {len(packages)} packages")
        return 0
    wrong = 0
    for package in audited:
        for advisory in package["vulns"]:
            wrong += 1
            fixed = ", ".join(advisory["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    print(f"advisories: {len(audited)} of {len(packages)} packages audited, {wrong} weaknesses")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
