"""Views for people: terminal tables, plots, the HTML report.

They read manifests and run logs. This room imports only core.
"""
