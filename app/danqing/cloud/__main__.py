"""`python -m danqing.cloud` is `danqing cloud`."""

from __future__ import annotations

from danqing.cloud.cli import main

if __name__ == "__main__":
    main()
