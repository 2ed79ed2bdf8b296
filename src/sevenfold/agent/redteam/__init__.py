"""Attacks on the loop of tools, as data, and the run that shows that none succeeds.

The model of every case is the worst there is: it does what the attacker wants.
"""
