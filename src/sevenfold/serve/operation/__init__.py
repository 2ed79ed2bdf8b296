"""The interface of an operator: metrics, records, switches."""
