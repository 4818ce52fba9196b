"""Where else a run is told of, beside its own directory: TensorBoard's panels, wandb, MLflow.

What is told, and when, is decided in ../run_log.py.
"""
