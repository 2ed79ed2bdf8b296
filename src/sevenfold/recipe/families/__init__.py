"""The rules of each family: tables of named rules, one module for each family.

`sevenfold.recipe.policy` applies them.
"""
