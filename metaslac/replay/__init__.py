"""Experience of every task: as tensors to draw batches from, as files of a checkpoint, and as data sets.

What is played to fill it is decided in training/.
"""
