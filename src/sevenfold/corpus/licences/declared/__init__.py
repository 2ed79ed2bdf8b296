"""What the metadata of packages declares, format by format."""
