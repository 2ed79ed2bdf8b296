"""The protocols of clients: fields, bodies, prompts and answers as each protocol writes them."""
