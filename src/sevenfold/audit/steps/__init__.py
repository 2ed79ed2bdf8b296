"""Single steps of training in a file of their own: written, checked, disputed."""
