"""The form of a conversation, which tuning, evaluation and serving share."""
