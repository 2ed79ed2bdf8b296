"""What can be asked of a finished run: where it comes from, what differs from another, and whether
its training replays.
"""
