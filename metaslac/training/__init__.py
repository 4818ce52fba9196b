"""The loop over time: playing or reading, updates, evaluation, and the run directory all is written into.

What one update is lies in learning/, what is shown of a trained agent in evidence/.
"""
