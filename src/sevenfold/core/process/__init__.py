"""What a process needs: native and optional libraries, workers, memory, progress."""
