"""What an operator sees and does: metrics, records, switches."""
