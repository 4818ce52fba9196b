"""Pictures and videos of episodes.

What is played for them is decided by the commands.
"""
