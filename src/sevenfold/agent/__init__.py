"""What acts around a model: so far its memory (`sevenfold.agent.memory`)."""
