"""What a run will need: the sizing calculator, cost, forecast, and launch on several processes."""
