"""The commands that train: by playing, and from a data set. The work is in launchers/api/."""
