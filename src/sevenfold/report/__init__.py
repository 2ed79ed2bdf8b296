"""Views for people: terminal tables, plots, the HTML report.

Reads manifests and run logs; imports only core.
"""
