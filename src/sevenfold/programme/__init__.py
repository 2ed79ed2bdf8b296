"""What a programme says of its models: the release table, risks, experiments and the handover pack,
each a function of records and sealed files.
"""
