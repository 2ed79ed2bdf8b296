"""Protocol cards, pinned data, and the items that they make."""
