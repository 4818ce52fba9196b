"""Every network, and the distributions they give.

How they learn is in learning/, how they act in acting/.
"""
