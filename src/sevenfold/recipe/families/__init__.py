"""What each family allows: tables of named rules, one module each.

`sevenfold.recipe.policy` applies them.
"""
