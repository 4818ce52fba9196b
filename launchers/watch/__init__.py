"""`metaslac watch`: a page on this machine, to play with a trained agent.

One thread plays (session.py) and publishes on a board (board.py), which the threads of the server
(server.py) read; what people ask for (orders.py) comes the same way.
"""
