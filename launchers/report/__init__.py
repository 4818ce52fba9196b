"""`metaslac report`: what a family's runs came to, as one HTML page that needs nothing else.

The command is in command.py, the page in page.html.j2; each other file makes one kind of thing that is on it.
"""
