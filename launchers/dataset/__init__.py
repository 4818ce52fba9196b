"""`metaslac dataset`: data sets recorded, looked at, and converted from and to other formats.

What a data set is stands in metaslac/replay/; one file a subcommand.
"""
