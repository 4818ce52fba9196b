"""`metaslac sweep`: many runs of one family, side by side, as processes.

A single run is meta_train.py, the page about them report/.
"""
