"""Commands about agents that are given away: exporting one, listing those shipped, and trying one.

The work is in api/exporting.py and api/adaptation.py.
"""
