"""The HTTP server: unmodified clients of OpenAI, llama.cpp and editors, on sealed models.

`limits` bounds everything a client can ask for. `protocols` reads requests and writes answers:
    `body` parses JSON, `fields` takes checked values from it, and `openai_api` and `llama_api`
    implement the two protocols. `batching` runs requests: `scheduler` batches sequences on one
    engine, `prefix_cache` keeps what they have read, and `text` turns ids into text and finds stop
    strings. `app` holds the routes, and `receipt` proves an answer. Needs `sevenfold[serve]`.
"""
