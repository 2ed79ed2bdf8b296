"""Sizing of a run before it starts: calculator, cost, forecast, and launch on several processes."""
