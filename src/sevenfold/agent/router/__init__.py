"""The router: when a tool is called, which, and when to stop. A linear head of integers.

specs/tools.md, "Router", is the definition.
"""
