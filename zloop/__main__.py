"""Runs a program on zloop: ``python -m zloop --help`` says how, zloop.launcher does it."""

import sys

from zloop.launcher import main

if __name__ == "__main__":
    main(sys.argv[1:])
