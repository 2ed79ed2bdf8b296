"""Define protocol cards and pinned data, and make their items."""
