"""OpenAI's SDK: a text, a chat and the states of a stream. `pip install openai`"""

from openai import OpenAI

client = OpenAI(base_url="http://localhost:8080/v1", api_key="none")

# A text with something before and after it.
stack = "class Stack:\n    def __len__(self):\n        return len("
filled = client.completions.create(model="unmask-code", prompt=stack, suffix="._items)\n", max_tokens=4, seed=7)
print("hole:", filled.choices[0].text)

# A chat.
question = {"role": "user", "content": "Write a Python function. Return the name."}
answer = client.chat.completions.create(
    model="unmask-code", messages=[question], max_tokens=32, temperature=0, extra_body={"diffusion": {"preset": "greedy"}}
)
print("chat:", answer.choices[0].message.content)

# States: what the SDK does not know goes into `extra_body`, and comes back as an attribute.
stream = client.completions.create(
    model="unmask-code", prompt="try:\n    import json\nexcept ", max_tokens=4, seed=46, stream=True,
    extra_body={"diffusion": {"stream_states": "delta"}},
)
canvas, text = {}, ""
for chunk in stream:
    text += "".join(choice.text for choice in chunk.choices)
    state = getattr(chunk, "diffusion", None) or {}
    if state.get("type") == "start":
        canvas = dict.fromkeys(range(state["length"]), state["mask"])
    elif state.get("type") == "step":
        canvas.update(zip(state["positions"], state["texts"]))
        print("canvas:", repr("".join(canvas.values())))
print("text:", repr(text))
