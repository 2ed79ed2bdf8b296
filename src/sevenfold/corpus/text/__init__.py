"""Values that corpus steps compute from one text: words, tree, functions, measures."""
