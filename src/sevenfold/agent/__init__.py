"""Tools of an agent around a model: its memory (`sevenfold.agent.memory`)."""
