"""Known weaknesses of the pinned packages: from pip-audit's database where it can be reached, else against the recorded review.

`tools/audit.json` records the last review: its date, how it was made, the pins, and what was accepted. Exit 1 for a weakness
that is not recorded as accepted; with `--strict` also for pins that nobody has reviewed. pip-audit is asked where it is
installed and reaches its database.

    python tools/audit.py            check
    python tools/audit.py --record   write a review of the pins as they are now (after reading what changed)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "constraints.txt"
RECORD = ROOT / "tools" / "audit.json"
SECONDS = 120


@dataclass(frozen=True)
class Weakness:
    """One advisory about one pinned package."""

    package: str
    version: str
    advisory: str


def pins() -> dict[str, str]:
    """Package → version, as `constraints.txt` pins them."""
    rows = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", PINS.read_text("utf-8"), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in rows}


def fingerprint(pinned: dict[str, str]) -> str:
    """Changes with any pin."""
    return hashlib.sha256(
        "\n".join(f"{name}=={version}" for name, version in sorted(pinned.items())).encode()
    ).hexdigest()


def asked() -> list[Weakness] | None:
    """What pip-audit's database knows; None where the program is missing or the database cannot be reached."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(PINS), "--no-deps", "--disable-pip", "-f", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        rows: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return [Weakness(row["name"], row["version"], one["id"]) for row in rows for one in row.get("vulns", ())]


def record() -> dict[str, Any]:
    """The last review."""
    found: dict[str, Any] = json.loads(RECORD.read_text("utf-8"))
    return found


def check(found: list[Weakness] | None, pinned: dict[str, str], review: dict[str, Any]) -> list[str]:
    """What has to be looked at, [] when nothing has."""
    if found is not None:
        accepted = set(review["accepted"])
        return [f"{one.package} {one.version}: {one.advisory}" for one in found if one.advisory not in accepted]
    if fingerprint(pinned) == review["pins"]:
        return []
    before: dict[str, str] = review["versions"]
    changed = sorted(name for name, version in pinned.items() if before.get(name) != version)
    lines = [f"{name} {before.get(name, 'new')} → {pinned[name]}" for name in changed] or ["packages were taken out"]
    return [f"not reviewed since {review['date']}: {line}" for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--strict", action="store_true", help="fail for pins that nobody has reviewed")
    parser.add_argument("--record", action="store_true", help="write a review of the pins as they are now")
    found, pinned = asked(), pins()
    how = (
        "pip-audit's database" if found is not None else "the list of pins, read; no database of advisories was reached"
    )
    chosen = parser.parse_args()
    if chosen.record:
        accepted = {one.advisory for one in found or ()} | set(record()["accepted"] if RECORD.is_file() else ())
        review = {"date": time.strftime("%Y-%m-%d"), "how": how, "pins": fingerprint(pinned), "versions": pinned}
        review |= {"accepted": sorted(accepted)}
        RECORD.write_text(json.dumps(review, indent=1, sort_keys=True) + "\n", "utf-8")
    lines = check(found, pinned, record())
    print(f"{len(pinned)} packages against {how}: {len(lines)} to look at")
    print("\n".join(lines))
    return 1 if lines and (found is not None or chosen.strict) else 0


if __name__ == "__main__":
    sys.exit(main())
