"""What a run tells of itself: rows of numbers, events and its progress on the screen.

No training here: what there is to tell comes from the loop.
"""
