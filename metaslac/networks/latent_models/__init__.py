"""Latent variable models by name: SLAC's, and what it was compared with.

All are known by base.py's LatentModel alone; what they learn from besides is in learning/.
"""
