"""What a run tells of itself: rows of numbers, events and its progress on the screen."""
