"""The float transformer: one definition for every family, sized by `recipe.ModelSpec`, with one
file for each component.
"""
