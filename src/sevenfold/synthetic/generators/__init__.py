"""The generators: each makes samples of one kind, checked before they are kept."""
