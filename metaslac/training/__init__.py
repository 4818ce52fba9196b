"""The loop over time: collection, updates, evaluation, and the run directory all of it is written into.

What one update is lies in learning/, what is shown of a trained agent in evidence/.
"""
