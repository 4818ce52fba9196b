"""From a batch to one update of every network: losses, the order of a step, optimisers, precision, memory.

No environment, no file of a run and no loop over time: those are in training/.
"""
