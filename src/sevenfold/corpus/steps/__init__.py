"""Steps over documents, one module each; `table` says which there are and in what order."""
