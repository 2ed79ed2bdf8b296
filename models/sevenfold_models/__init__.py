"""Sealed models as data. `sevenfold` finds them by name; nothing here is code."""
