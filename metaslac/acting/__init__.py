"""The agent, and all that plays with it: roll-outs, adaptation to a task, an agent for a loop of one's own.

Nothing here learns, and nothing knows a simulator: environments are handed in.
"""
