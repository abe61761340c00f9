"""LangChain's own standard suites, on the demo model."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from mullama.integrations.langchain import ChatMullama

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    _Detail = Literal["audio_input", "audio_output", "reasoning_output", "cache_read_input", "cache_creation_input"]

own_arguments_alone = pytest.mark.xfail(reason="the demo model writes the arguments of tools that it was trained on")
in_both_formats = pytest.mark.parametrize("model", [{}, {"output_version": "v1"}], indirect=True)


class TestUnit(ChatModelUnitTests):
    """What needs no answer."""

    chat_model_class = ChatMullama
    supports_model_override = False

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """How the model is made."""
        return {"model": "demo"}


@pytest.mark.anyio
class TestIntegration(ChatModelIntegrationTests):
    """What needs answers."""

    chat_model_class = ChatMullama
    supports_model_override = False
    supports_anthropic_inputs = True
    has_structured_output = False  # which is a call whose arguments fit a schema

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """How the model is made."""
        # The likeliest answer: a drawn one may be no call at all.
        return {"model": "demo", "temperature": 0}

    @property
    def supported_usage_metadata_details(self) -> dict[Literal["invoke", "stream"], list[_Detail]]:
        """What usage tells besides sums."""
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """An answer to what was asked before."""
        llm = ChatMullama("demo", temperature=0)
        llm.invoke("Hello")
        if not stream:
            return llm.invoke("Hello")
        return functools.reduce(operator.add, llm.stream("Hello"))

    @own_arguments_alone
    @in_both_formats
    def test_tool_calling(self, model: BaseChatModel) -> None:
        """As the suite has it."""
        super().test_tool_calling(model)

    @own_arguments_alone
    async def test_tool_calling_async(self, model: BaseChatModel) -> None:
        """As the suite has it."""
        await super().test_tool_calling_async(model)

    @own_arguments_alone
    def test_bind_runnables_as_tools(self, model: BaseChatModel) -> None:
        """As the suite has it."""
        super().test_bind_runnables_as_tools(model)

    @own_arguments_alone
    def test_tool_calling_with_no_arguments(self, model: BaseChatModel) -> None:
        """As the suite has it."""
        super().test_tool_calling_with_no_arguments(model)

    @own_arguments_alone
    @in_both_formats
    def test_agent_loop(self, model: BaseChatModel) -> None:
        """As the suite has it."""
        super().test_agent_loop(model)

    @own_arguments_alone
    def test_unicode_tool_call_integration(
        self,
        model: BaseChatModel,
        *,
        tool_choice: str | None = None,  # noqa: PT028  # the suite's signature
        force_tool_call: bool = True,  # noqa: PT028
    ) -> None:
        """As the suite has it."""
        super().test_unicode_tool_call_integration(model, tool_choice=tool_choice, force_tool_call=force_tool_call)
