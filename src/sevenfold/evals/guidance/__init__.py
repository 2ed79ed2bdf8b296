"""Choose or repair answers by executing them."""
