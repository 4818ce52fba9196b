"""The commands that train: by playing, and on a data set.

Options and words alone: the work is in launchers/api/, the loops in metaslac/training/.
"""
