"""What a run is: every setting with its meaning and default, as text and back, limits and presets.

Reads and writes no files, and imports no torch.
"""
