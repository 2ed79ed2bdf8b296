"""Tools of a model: calculator, programs, retrieval, web; guards, budgets and a record around them.

specs/tools.md is the definition.
"""
