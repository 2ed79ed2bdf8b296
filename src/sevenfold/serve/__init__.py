"""The HTTP server: unmodified clients of OpenAI, llama.cpp and editors, on sealed models.

`limits` bounds everything a client can ask for. `body` reads JSON, `fields` takes values out of it,
`request` is what the scheduler runs. `scheduler` batches sequences on one engine; `prefix_cache`
keeps what they read; `text` turns ids into text and finds stop strings. `app` routes; `openai_api`
and `llama_api` speak the two protocols; `receipt` proves an answer. Needs `sevenfold[serve]`.
"""
