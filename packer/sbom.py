#!/usr/bin/env python3
"""What is installed on this machine, as a CycloneDX 1.5 document: Debian packages, Danqing's Python packages, weights.

Runs on the builder with whatever Python 3 the base has (3.8 and newer), as root, before the image is made.
"""

import argparse
import json
import os
import re
import subprocess
import uuid
from datetime import UTC, datetime
from email.parser import HeaderParser
from glob import glob

VENV = "/opt/danqing/venv"
WEIGHTS = ("/var/lib/danqing/data/models", VENV + "/lib/python3*/site-packages/danqing")


def os_release():
    with open("/etc/os-release") as handle:
        rows = (line.rstrip().split("=", 1) for line in handle if "=" in line)
        return {name: value.strip('"') for name, value in rows}


def quoted(version):
    """A version inside a package URL."""
    return version.replace("+", "%2B").replace(":", "%3A")


def debian(system):
    """Packages that dpkg knows as installed."""
    form = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"
    listing = subprocess.run(["dpkg-query", "-W", "-f", form], stdout=subprocess.PIPE, check=True).stdout.decode()
    for line in listing.splitlines():
        status, name, version, architecture = line.split("\t")
        if status == "installed":
            url = "pkg:deb/{}/{}@{}?arch={}".format(
                system.get("ID", "debian"),
                name,
                version.replace("+", "%2B"),
                architecture,
            )
            yield {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url}


def python():
    """Distributions in Danqing's own environment."""
    for path in sorted(glob(VENV + "/lib/python3*/site-packages/*.dist-info/METADATA")):
        with open(path, encoding="utf-8") as handle:
            fields = HeaderParser().parse(handle, headersonly=True)
        name, version = fields["Name"], fields["Version"]
        url = "pkg:pypi/{}@{}".format(re.sub(r"[-_.]+", "-", name).lower(), quoted(version))
        part = {"type": "library", "name": name, "version": version, "purl": url, "bom-ref": url}
        licence = fields["License-Expression"] or fields["License"]
        if licence and len(licence) < 100:
            part["licenses"] = [{"license": {"name": licence}}]
        yield part


def weights():
    """Files of weights with their sha256."""
    for folder in WEIGHTS:
        for path in sorted(
            glob(folder + "/**/*.safetensors", recursive=True) + glob(folder + "/**/*.pth", recursive=True)
        ):
            digest = subprocess.run(["sha256sum", path], stdout=subprocess.PIPE, check=True).stdout.decode().split()[0]
            yield {
                "type": "machine-learning-model",
                "name": os.path.basename(path),
                "bom-ref": path,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }


def document(name):
    system = os_release()
    parts = list(debian(system)) + list(python()) + list(weights())
    parts.append(
        {"type": "operating-system", "name": system["ID"], "version": system.get("VERSION_ID", ""), "bom-ref": "os"}
    )
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "device", "name": name, "bom-ref": "image"},
        },
        "components": parts,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the image's name")
    parser.add_argument("--output", required=True, help="file to write")
    asked = parser.parse_args()
    with open(asked.output, "w") as handle:
        json.dump(document(asked.name), handle, indent=1)
    os.chmod(asked.output, 0o644)


if __name__ == "__main__":
    main()
