"""The protocols of clients: how each reads a request and writes an answer."""
