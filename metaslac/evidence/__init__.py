"""What is shown of a trained agent: statistics of returns, what a probe reads of beliefs, reconstructions.

Playing the episodes is acting/'s business, pages and tables are the launchers'.
"""
