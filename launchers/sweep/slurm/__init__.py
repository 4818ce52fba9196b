"""Sweeps on a cluster: each run a job of Slurm's, watched from where the command was called.

Jobs on this machine are in ../jobs.py, and what a sweep consists of is in ../plan.py.
"""
