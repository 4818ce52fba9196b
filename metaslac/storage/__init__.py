"""Files that survive: written whole, checked when read, and known by what made them.

What a training puts into them is decided in training/ and replay/.
"""
