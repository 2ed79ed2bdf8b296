"""What a run writes about itself: metrics, the gradient trace, its environment, its speed."""
