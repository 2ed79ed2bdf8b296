"""Integer inference: the reference engine (the law), and sessions behind the CM-1 gate."""
