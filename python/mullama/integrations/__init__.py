"""Integrations with other libraries. Each module needs its library; importing this package needs none of them.

`mullama.integrations.langchain`
    `ChatMullama`, a LangChain chat model. `pip install mullama[langchain]`.

`mullama.integrations.fastapi`
    Streams as server-sent events and errors as HTTP responses, for FastAPI and plain Starlette.
    `pip install mullama[fastapi]`.
"""
