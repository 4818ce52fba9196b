"""Experience of every task: as tensors to draw batches from, and as files of a checkpoint.

What is played to fill it is decided in training/.
"""
