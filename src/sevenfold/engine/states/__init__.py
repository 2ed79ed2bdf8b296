"""States of constant size: hybrid attention of the reference, and states on disk."""
