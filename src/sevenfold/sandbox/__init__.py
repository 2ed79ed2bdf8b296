"""Programs that nobody vouches for, executed where they can reach nothing."""
