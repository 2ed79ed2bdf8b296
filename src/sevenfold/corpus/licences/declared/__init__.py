"""Readers of the licences that the metadata of packages declares, by format."""
