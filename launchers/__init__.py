"""Commands that join the families and the algorithm; nothing else imports this package.

One file a command; the group they belong to is in cli.py, what they do for a program to call in api/.
"""
