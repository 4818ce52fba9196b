"""Commands that join `envs` and `metaslac`; nothing imports this package.

One file per command; the group they belong to is in `cli.py`.
"""
