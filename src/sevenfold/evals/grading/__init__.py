"""Rules of extraction and graders."""
