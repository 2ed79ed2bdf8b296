"""The float transformer: one definition for every family, sized by `recipe.ModelSpec`, one file per
component.
"""
