"""What LiteLLM gets of a server: litellm_client.py BASE."""

import json
import sys

import litellm

litellm.telemetry = False
base, messages = sys.argv[1], [{"role": "user", "content": "Write f."}]
shared = {"model": "openai/m", "api_base": base, "api_key": "none", "messages": messages, "max_tokens": 10}
whole = litellm.completion(**shared)
stream = litellm.completion(**shared, stream=True)
parts = [part.choices[0].delta.content or "" for part in stream if part.choices]
text = litellm.text_completion(
    model="text-completion-openai/m", prompt="def f(", max_tokens=10, api_base=base, api_key="none"
)
try:
    litellm.completion(**{**shared, "n": 1000})
    refused = ""
except litellm.exceptions.BadRequestError as error:
    refused = type(error).__name__
print(
    json.dumps(
        [
            whole.choices[0].message.content,
            "".join(parts),
            whole.usage.completion_tokens,
            text.choices[0].text,
            refused,
        ]
    )
)
