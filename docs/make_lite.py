"""The lessons in the reader's browser: gather what they need, then build the site without network.

    python docs/make_lite.py gather FILES
    python docs/make_lite.py build FILES OUT [--cdn ADDRESS]

`--cdn` without an address is Pyodide's public one: the site is smaller, and a reader's browser
takes Pyodide from there. Without `--cdn` all is in the site: for tests, and without network.
"""

import argparse
import sys
from pathlib import Path

from lite.building import build
from lite.gathering import gather
from lite.runtime import CDN


def main():
    parser = argparse.ArgumentParser(description="The lessons in the reader's browser.")
    commands = parser.add_subparsers(required=True, dest="command")
    gathering = commands.add_parser("gather", help="fetch Pyodide and the packages, with network")
    gathering.add_argument("files", type=Path)
    building = commands.add_parser("build", help="build the site of them, without network")
    building.add_argument("files", type=Path)
    building.add_argument("out", type=Path)
    building.add_argument("--cdn", nargs="?", const=CDN, metavar="ADDRESS")
    options = parser.parse_args()
    if options.command == "gather":
        gather(options.files)
    else:
        build(options.files, options.out, cdn=options.cdn)


if __name__ == "__main__":
    sys.exit(main())
