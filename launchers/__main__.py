"""`python -m launchers` is the same as `metaslac`."""

from launchers.cli import main

main()
