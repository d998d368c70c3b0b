"""Chat templates in common styles: how turns are marked, and in which of Jinja's words that is written.

Every template here is written for these tests, from what such templates have in common.
"""

# Name: what stands before a turn ({role} is an expression), and behind it.
MARKS = {
    "chatml": ("<|im_start|>{role}\\n", "<|im_end|>\\n"),
    "headers": ("<|start_header_id|>{role}<|end_header_id|>\\n\\n", "<|eot_id|>"),
    "pipes": ("<|{role}|>\\n", "</s>\\n"),
    "turns": ("<start_of_turn>{role}\\n", "<end_of_turn>\\n"),
    "colons": ("{role}: ", "\\n"),
    "hashes": ("### {role}:\\n", "\\n\\n"),
    "channels": ("<|start|>{role}<|message|>", "<|end|>"),
    "roles": ("<|start_of_role|>{role}<|end_of_role|>", "<|end_of_text|>\\n"),
    "brackets": ("[{role}] ", " [/{role}]"),
    "sections": ("<{role}>\\n", "\\n</{role}>\\n"),
}


def mark(text, role):
    """An expression for a mark, with the role in its place."""
    return " ~ ".join(repr(part) if n % 2 == 0 else role for n, part in enumerate(interleave(text, role)))


def interleave(text, role):
    parts = text.encode().decode("unicode_escape").split("{role}")
    return [item for part in parts for item in (part, role)][:-1]


def plain(before, behind):
    return (
        "{% for message in messages %}"
        "{{ BEFORE(message['role']) ~ message['content'] ~ BEHIND(message['role']) }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ BEFORE('assistant') }}{% endif %}"
    )


def trimmed(before, behind):
    return """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('a system message must come first') }}
    {%- endif %}
    {{- BEFORE(message.role) + message.content | trim + BEHIND(message.role) }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- BEFORE('assistant') }}
{%- endif %}
"""


def generation(before, behind):
    return """{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {{- BEFORE('assistant') -}}
        {% generation %}{{ message.content ~ BEHIND('assistant') }}{% endgeneration %}
    {%- else -%}
        {{- BEFORE(message.role) ~ message.content ~ BEHIND(message.role) -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- BEFORE('assistant') -}}{%- endif -%}
"""


def merged(before, behind):
    return """{% if messages[0]['role'] == 'system' %}
{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}
{% else %}
{% set system = none %}{% set turns = messages %}
{% endif %}
{% for message in turns %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if loop.first and system is not none %}
{% set content = '<<SYS>>\\n' + system.strip() + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}
{% set content = message['content'] %}
{% endif %}
{{ BEFORE(message['role']) + content.strip() + BEHIND(message['role']) }}{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}

{% endfor %}
{% if add_generation_prompt %}
{{ BEFORE('assistant') }}
{% endif %}"""


def macros(before, behind):
    return """{%- macro turn(role, text, open=false) -%}
{{ BEFORE(role) ~ text }}{% if not open %}{{ BEHIND(role) }}{% endif %}
{%- endmacro -%}
{%- set ns = namespace(last=-1, count=0) -%}
{%- for m in messages -%}
  {%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- set ns.count = ns.count + 1 -%}{%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
  {%- if m.role == 'system' -%}{{ turn('system', m.content.upper() if ns.count > 1 else m.content.title()) }}
  {%- elif loop.index0 == ns.last -%}{{ turn(m.role, m.content ~ ' (' ~ ns.count ~ ')') }}
  {%- else -%}{{ turn(m.role, m.content) }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ turn('assistant', '', open=true) }}{%- endif -%}
"""


def thinking(before, behind):
    return """{%- for m in messages %}
{%- set content = m.content %}
{%- if m.role == 'assistant' and '</think>' in content %}
  {%- set thought, content = content.split('</think>')[0].split('<think>')[-1].strip('\\n'), content.rsplit('</think>', 1)[-1].lstrip('\\n') %}
  {%- if loop.last %}{%- set content = '(' ~ thought ~ ') ' ~ content %}{%- endif %}
{%- endif %}
{{- BEFORE(m.role) ~ content ~ BEHIND(m.role) }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- BEFORE('assistant') }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""


def blocks(before, behind):
    return """{% block head %}{{ bos_token }}{% endblock %}
{%- set join = joiner('|') -%}
{%- set row = cycler('odd', 'even') -%}
{%- for m in messages -%}
{{ join() }}{{ row.next() }}{{ BEFORE(m.role.ljust(9, '.')) }}{{ m.content | center(20) }}{{ m.content | wordcount }}
{{- (loop.index | string).zfill(3) ~ m.content.partition(' ')[2] ~ m.content.rsplit(' ', 1)[0] ~ BEHIND(m.role.center(11)) }}
{%- endfor -%}
{% block foot scoped %}{% if add_generation_prompt %}{{ BEFORE('assistant'.rjust(12)) }}{% endif %}{% endblock foot %}
"""


def json_turns(before, behind):
    return """{%- for m in messages %}
{{- BEFORE(m['role']) }}{{ {'text': m['content'], 'at': loop.index, 'last': loop.last, 'none': none} | tojson }}{{ BEHIND(m['role']) -}}
{%- endfor %}
{%- if messages | length > 1 and messages[-2].role in ['user', 'assistant'] %}{{ messages | map(attribute='role') | join(',') }}{% endif %}
{%- if add_generation_prompt %}{{ BEFORE('assistant') }}{% endif -%}
"""


FORMS = [plain, trimmed, generation, merged, macros, thinking, blocks, json_turns]


def templates():
    """Names and sources."""
    for name, (before, behind) in MARKS.items():
        for form in FORMS:
            yield f"{name}-{form.__name__}", written(form(before, behind), before, behind)


def written(source, before, behind):
    """The marks in place of BEFORE(role) and BEHIND(role)."""
    for word, text in [("BEFORE(", before), ("BEHIND(", behind)]:
        while word in source:
            start = source.index(word)
            end, depth = start + len(word), 1
            while depth:
                depth += {"(": 1, ")": -1}.get(source[end], 0)
                end += 1
            role = source[start + len(word) : end - 1]
            source = source[:start] + "(" + mark(text, role) + ")" + source[end:]
    return source
