"""Verbs that make a model: recipes, stages, corpus, tokenizer, samples."""
