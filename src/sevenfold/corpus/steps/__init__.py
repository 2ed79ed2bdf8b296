"""Steps over documents, one module for each. `table` lists them in their order."""
