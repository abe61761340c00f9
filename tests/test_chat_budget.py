"""A chat template takes no more memory than its budget, in a process that has little."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# Memory that the process may take beyond what it has when the model is loaded: the budget of a small chat is 64 MiB, a
# rendering thread reserves its stack, and the allocator keeps some.
MORE_BYTES = 512 << 20
SHARED = (
    "{% set n = namespace(x=[1], y=[1]) %}"
    "{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}"
)
LONG = "{% set x = 'a' * 10000000 %}"
SOURCES = [
    *(
        f"{SHARED}{{{{ {operation} }}}}"
        for operation in (
            "n.x == n.y",
            "n.x < n.y",
            "n.x in [n.y]",
            "[n.x, n.y] | sort",
            "n.x | join",
            "n.x ~ ''",
            "'%s' % [n.x]",
            "'{}'.format(n.x)",
            "n.x | tojson",
            "n.x | string",
            "[n.x] | unique | list",
            "{(n.x,): 1}",
        )
    ),
    LONG + "{{ ('{0}' * 100000).format(x) | length }}",
    LONG + "{{ x.replace('a', x) }}",
    LONG + "{{ x.split('a') | length }}",
    LONG + "{{ x | list | length }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(300) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{{ namespace(a='x' * 10000) is string }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 'a' * 10 ** 15 }}",
    "{{ 'a' | indent(10 ** 15, true) }}",
    "{{ [1] | tojson(indent=10 ** 15) }}",
    "{{ " + "x+" * 32000 + "1 }}",
    "{{ " + "(" * 60000,
    "{% if true %}" * 15000,
]
CHILD = """
import resource, sys
import mullama

model = mullama.Model.load("demo", vocab_only=True)
messages = [{"role": "user", "content": "Hello!"}]
model.apply_chat_template(messages)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    model.apply_chat_template(messages, chat_template=sys.stdin.read())
except mullama.ChatTemplateError as error:
    print(error.reason)
else:
    sys.exit("it was rendered")
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("source", SOURCES)
def test_a_template_that_wants_too_much_is_an_error_in_a_small_process(source: str) -> None:
    command = [sys.executable, "-c", CHILD, str(MORE_BYTES)]
    child = subprocess.run(command, input=source, capture_output=True, text=True, timeout=100, check=False)
    assert child.returncode == 0, child.stderr
    assert "the chat template" in child.stdout
