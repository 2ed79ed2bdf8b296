"""What corpus steps compute of one text: its words, its tree, its functions, its measures."""
