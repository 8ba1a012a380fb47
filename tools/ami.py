"""`make ami` and `make ami-plan`: looks first, says what it means, then runs Packer on the template in packer/.

What Packer gets is assembled here, once, from make's variables; `plan` prints the same command without running it and asks
nobody. Exit status 2: nothing was built and the last lines say what to do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from danqing import __version__
from danqing.cloud import bases
from danqing.cloud.errors import CloudError
from danqing.cloud.facts import partition_of

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (1, 9, 0)
MARKET_REGION = "us-east-1"
INSTALL = (
    "Packer {oldest} or newer is needed, {found}. 1.9.5 is the last release under the MPL:\n"
    "  https://developer.hashicorp.com/packer/install  or  https://releases.hashicorp.com/packer/1.9.5/\n"
    "(Debian's own package, 1.6.6, cannot ask for IMDSv2; `make box` uses it, an AMI is not built with it.)"
)


class RefusedError(Exception):
    """Nothing is built; the message says why and what to do."""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ami",
        description=(__doc__ or "").partition("\n")[0],
        epilog="what follows -- is handed to packer build",
    )
    parser.add_argument("command", choices=("build", "plan"))
    parser.add_argument("--base", default=bases.DEFAULT_BASE)
    parser.add_argument("--region", default="us-east-1")
    for name in ("regions", "accounts", "organisations", "units", "models", "mirror", "kms", "profile", "subnet"):
        parser.add_argument(f"--{name}", default="", help="lists with commas")
    for name in ("spot", "encrypt", "session-manager", "marketplace", "accept-licenses", "protect"):
        parser.add_argument(f"--{name}", action="store_true")
    given = sys.argv[1:] if argv is None else argv
    mine = given[: given.index("--")] if "--" in given else given
    asked = parser.parse_args(mine)
    asked.more = given[len(mine) + 1 :]
    return asked


def check(asked: argparse.Namespace) -> None:
    """Refuse what cannot work together, before anybody is asked.

    Raises:
        RefusedError: with what to change.
    """
    if asked.kms and not asked.encrypt:
        raise RefusedError("KMS names a key for encryption: add ENCRYPT=1.")
    if asked.session_manager and not asked.profile:
        raise RefusedError("SSM=1 needs PROFILE, an instance profile with AmazonSSMManagedInstanceCore.")
    if asked.encrypt and not asked.kms and (asked.accounts or asked.organisations or asked.units):
        raise RefusedError(
            "An image encrypted with the account's default key cannot be shared: name a key with KMS=..."
        )
    if asked.marketplace:
        _check_market(asked)


def _check_market(asked: argparse.Namespace) -> None:
    if asked.encrypt:
        raise RefusedError("Marketplace takes no encrypted snapshots: leave ENCRYPT out.")
    if asked.region != MARKET_REGION:
        raise RefusedError(
            f"Marketplace takes images from {MARKET_REGION} only: make ami MARKETPLACE=1 REGION={MARKET_REGION}"
        )
    if asked.regions or asked.accounts or asked.organisations or asked.units:
        raise RefusedError(
            "Marketplace copies and shares by itself: leave REGIONS, ACCOUNTS, ORGANISATIONS and UNITS out."
        )


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def variables(asked: argparse.Namespace, image: str = "") -> dict[str, str]:
    """The template's variables; lists are JSON, as Packer reads them. `image` pins the base."""
    base = bases.base(asked.base)
    more = {
        "danqing_model_groups": listed(asked.models),
        "danqing_hub": asked.mirror,
        "danqing_accept_licenses": asked.accept_licenses,
    }
    given = {name: value for name, value in more.items() if value}
    found = {
        "region": asked.region,
        "version": __version__,
        "revision": _revision(),
        "base_owners": json.dumps([base.owner_in(partition_of(asked.region).name)]),
        "source_ami": image,
        "spot_price": "auto" if asked.spot else "",
        "spot_instance_types": json.dumps(["m7i.xlarge", "m6i.xlarge", "m5.xlarge"] if asked.spot else []),
        "session_manager": str(asked.session_manager).lower(),
        "instance_profile": asked.profile,
        "subnet_id": asked.subnet,
        "encrypt": str(asked.encrypt).lower(),
        "kms_key_id": asked.kms,
        "ami_regions": json.dumps(listed(asked.regions)),
        "ami_users": json.dumps(listed(asked.accounts)),
        "ami_org_arns": json.dumps(listed(asked.organisations)),
        "ami_ou_arns": json.dumps(listed(asked.units)),
        "protect": str(asked.protect).lower(),
        "marketplace": str(asked.marketplace).lower(),
        "ansible_command": str(Path(sys.executable).parent / "ansible-playbook"),
        "ansible_arguments": json.dumps(["-e", json.dumps(given)] if given else []),
    }
    return {name: value for name, value in found.items() if value not in ("", "[]", "false")}


def _revision() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def command(asked: argparse.Namespace, image: str = "") -> list[str]:
    """The packer command, to be run in the repository's root."""
    chosen = [f"-var={name}={value}" for name, value in variables(asked, image).items()]
    return ["packer", "build", f"-var-file=packer/bases/{asked.base}.pkrvars.hcl", *chosen, *asked.more, "packer"]


def packer_trouble() -> str:
    """Why this machine's Packer will not do, "" when it will."""
    oldest = ".".join(map(str, OLDEST))
    if not shutil.which("packer"):
        return INSTALL.format(oldest=oldest, found="and there is none on PATH")
    done = subprocess.run(["packer", "version"], capture_output=True, text=True, check=False)
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if match and tuple(map(int, match.groups())) >= OLDEST:
        return ""
    return INSTALL.format(oldest=oldest, found=f"this is {match[0] if match else 'something else'}")


def plan(asked: argparse.Namespace) -> int:
    cloud = [sys.executable, "-m", "danqing.cloud", "plan", "--base", asked.base, "--region", asked.region]
    cloud += ["--regions", asked.regions, "--accounts", asked.accounts]
    cloud += [f"--{name}" for name in ("marketplace", "spot") if getattr(asked, name)]
    status = subprocess.run(cloud, cwd=ROOT, check=False).returncode
    if status == 0:
        print("command:\n  packer init packer\n  " + shlex.join(command(asked)))
        if trouble := packer_trouble():
            print(f"first: {trouble}")
    return status


def build(asked: argparse.Namespace) -> int:
    """Look for the base, then build. Nothing that costs starts before every check has passed.

    Raises:
        RefusedError: this machine's Packer will not do.
    """
    look = [sys.executable, "-m", "danqing.cloud", "check-base", "--base", asked.base, "--region", asked.region]
    look += ["--marketplace"] if asked.marketplace else []
    status = subprocess.run(look, cwd=ROOT, check=False).returncode
    if status:
        return status
    found = json.loads(subprocess.run([*look, "--json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    if trouble := packer_trouble():
        raise RefusedError(trouble)
    (ROOT / "build" / "ami").mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PACKER_CONFIG_DIR": str(ROOT / "build" / "packer"), "CHECKPOINT_DISABLE": "1"}
    for step in (["packer", "init", "packer"], command(asked, found["image"])):
        status = subprocess.run(step, cwd=ROOT, env=environment, check=False).returncode
        if status:
            return status
    print("manifest and list of components: build/ami/")
    return 0


def main(argv: list[str] | None = None) -> int:
    asked = arguments(argv)
    try:
        bases.base(asked.base)
        partition_of(asked.region)
        check(asked)
        return plan(asked) if asked.command == "plan" else build(asked)
    except CloudError as error:
        print(error, file=sys.stderr)
    except RefusedError as refused:
        print(refused, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
