"""The arithmetic of training in exact fractions, an oracle for single results."""
