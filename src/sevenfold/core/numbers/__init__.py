"""Integer arithmetic, its tables, exact sums, and seeds."""
