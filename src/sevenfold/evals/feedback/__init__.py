"""Execution feedback (C10): answers that pass their tests become conversations to tune on."""
