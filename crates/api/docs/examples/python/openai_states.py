from openai import OpenAI

client = OpenAI(base_url="http://localhost:8080/v1", api_key="none")
stream = client.completions.create(
    model="unmask-code", prompt="try:\n    import json\nexcept ", max_tokens=4, seed=46,
    stream=True, extra_body={"diffusion": {"stream_states": "delta"}},
)
for chunk in stream:
    state = getattr(chunk, "diffusion", {})
    if state.get("type") == "step":
        print(state["remaining"], "open:", dict(zip(state["positions"], state["texts"])))
