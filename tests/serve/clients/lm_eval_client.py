"""What lm-eval gets of a server, which is asked by a line of JSON: base, pairs, prompts."""

import json
import sys
from types import SimpleNamespace

from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

base, pairs, prompts = json.load(sys.stdin)
asked = [SimpleNamespace(args=tuple(pair)) for pair in pairs]
found = []
for batch in (1, 4):
    lm = LocalCompletionsAPI(model="m", base_url=base + "/completions", batch_size=batch)
    found.append([[value, bool(greedy)] for value, greedy in lm.loglikelihood(asked, disable_tqdm=True)])
until = {"until": ["\n\n"], "max_gen_toks": 12}
asked = [SimpleNamespace(args=(prompt, dict(until))) for prompt in prompts]
texts = lm.generate_until(asked, disable_tqdm=True)
chat = LocalChatCompletion(model="m", base_url=base + "/chat/completions")
message = json.dumps([{"role": "user", "content": "Write f."}])
said = chat.generate_until([SimpleNamespace(args=(JsonChatStr(message), dict(until)))], disable_tqdm=True)
print(json.dumps([found, texts, said]))
