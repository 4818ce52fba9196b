"""`python -m metaslac` is the same as `metaslac`."""

from metaslac.launchers.cli import main

main()
