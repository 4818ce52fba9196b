"""The interfaces of other libraries: agents and environments as those want them.

The one room beside the commands that knows both; nothing imports it, and it imports none of those libraries.
"""
