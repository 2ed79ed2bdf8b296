"""Documents and statements that go out with a sealed model: model card, bill of materials, notice,
lineage, signature.
"""
