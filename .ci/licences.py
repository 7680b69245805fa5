#!/usr/bin/env python3
"""Checks that the licences of all dependencies allow use in Apache-2.0 software.

Reads `cargo metadata`; needs no tool beside cargo. `deny.toml` says the same for cargo-deny.
"""

import json
import re
import subprocess
import sys

# tomllib came with python 3.11; this list needs no more than lines in quotes.
allowed = set(re.findall(r'^  "(.+)",$', open("deny.toml").read(), re.M))


def fits(expression):
    """Whether an SPDX expression can be met with allowed licences."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both():
        result = single()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = single() and result
        return result

    def single():
        token = tokens.pop(0)
        if token == "(":
            result = either()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allowed

    return either()


metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--locked"]))
bad = [f"{p['name']} {p['version']}: {p['license']}" for p in metadata["packages"] if not (p["license"] and fits(p["license"]))]
print(f"{len(metadata['packages'])} packages, {len(bad)} with a licence that is not allowed")
print(*bad, sep="\n")
sys.exit(bool(bad))
