"""What the commands do, for a program to call: `metaslac.meta_train`, `metaslac.adapt`, `metaslac.evaluate`.

No options and no screen here: those are the commands'.
"""
