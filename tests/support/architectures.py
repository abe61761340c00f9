"""Writes small models whose memory is no plain KV cache, with random weights and the demo's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from mullama._model import DEMO

if TYPE_CHECKING:
    from pathlib import Path

DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, CONTEXT = 64, 4, 4, 2, 128, 1024
D_CONV, D_INNER, D_STATE, DT_RANK = 4, 2 * DIM, 16, 8
WINDOW = 24
"""Tokens that a sliding layer looks back."""


def write(path: Path, architecture: str) -> Path:
    """Writes a model: `mamba` is recurrent, `jamba` a hybrid of it and attention, `gemma3` has sliding windows."""
    source = gguf.GGUFReader(DEMO)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_layer_norm_rms_eps(1e-5)
    _write_vocabulary(writer, source)
    weights = _Weights(writer)
    weights.put("token_embd.weight", len(_of(source, "tokenizer.ggml.tokens")), DIM)
    weights.put("output_norm.weight", DIM)
    {"mamba": _mamba, "jamba": _jamba, "gemma3": _gemma3}[architecture](writer, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Weights:
    """Random weights, the same each time; large enough that the likeliest token is so by far."""

    def __init__(self, writer: gguf.GGUFWriter) -> None:
        self._writer = writer
        self._random = np.random.default_rng(7)

    def put(self, name: str, *shape: int) -> None:
        values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(0.2)
        self._writer.add_tensor(name, np.ones(shape, np.float32) if "norm" in name else values)

    def put_values(self, name: str, values: np.ndarray[Any, Any]) -> None:
        self._writer.add_tensor(name, values.astype(np.float32))


def _of(source: gguf.GGUFReader, key: str) -> Any:  # noqa: ANN401  # whatever the file has
    found = source.get_field(key)
    assert found is not None
    return found.contents()


def _write_vocabulary(writer: gguf.GGUFWriter, source: gguf.GGUFReader) -> None:
    writer.add_tokenizer_model(_of(source, "tokenizer.ggml.model"))
    writer.add_tokenizer_pre(_of(source, "tokenizer.ggml.pre"))
    writer.add_token_list(_of(source, "tokenizer.ggml.tokens"))
    writer.add_token_types(_of(source, "tokenizer.ggml.token_type"))
    writer.add_token_merges(_of(source, "tokenizer.ggml.merges"))
    writer.add_bos_token_id(_of(source, "tokenizer.ggml.bos_token_id"))
    writer.add_eos_token_id(_of(source, "tokenizer.ggml.eos_token_id"))


def _ssm_numbers(writer: gguf.GGUFWriter) -> None:
    writer.add_ssm_conv_kernel(D_CONV)
    writer.add_ssm_inner_size(D_INNER)
    writer.add_ssm_state_size(D_STATE)
    writer.add_ssm_time_step_rank(DT_RANK)


def _ssm_block(weights: _Weights, block: str) -> None:
    weights.put(f"{block}.ssm_in.weight", 2 * D_INNER, DIM)
    weights.put(f"{block}.ssm_conv1d.weight", D_INNER, D_CONV)
    weights.put(f"{block}.ssm_conv1d.bias", D_INNER)
    weights.put(f"{block}.ssm_x.weight", DT_RANK + 2 * D_STATE, D_INNER)
    weights.put(f"{block}.ssm_dt.weight", D_INNER, DT_RANK)
    weights.put(f"{block}.ssm_dt.bias", D_INNER)
    # What a state keeps of itself from token to token: exp(a · dt), so a is below zero.
    weights.put_values(f"{block}.ssm_a", -np.tile(np.arange(1, D_STATE + 1), (D_INNER, 1)))
    weights.put_values(f"{block}.ssm_d", np.ones(D_INNER))
    weights.put(f"{block}.ssm_out.weight", DIM, D_INNER)


def _attention(weights: _Weights, block: str, head_dim: int) -> None:
    weights.put(f"{block}.attn_q.weight", HEADS * head_dim, DIM)
    weights.put(f"{block}.attn_k.weight", KV_HEADS * head_dim, DIM)
    weights.put(f"{block}.attn_v.weight", KV_HEADS * head_dim, DIM)
    weights.put(f"{block}.attn_output.weight", DIM, HEADS * head_dim)


def _feed_forward(weights: _Weights, block: str) -> None:
    weights.put(f"{block}.ffn_norm.weight", DIM)
    weights.put(f"{block}.ffn_gate.weight", HIDDEN, DIM)
    weights.put(f"{block}.ffn_up.weight", HIDDEN, DIM)
    weights.put(f"{block}.ffn_down.weight", DIM, HIDDEN)


def _mamba(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    writer.add_head_count(0)
    _ssm_numbers(writer)
    for layer in range(LAYERS):
        weights.put(f"blk.{layer}.attn_norm.weight", DIM)
        _ssm_block(weights, f"blk.{layer}")


def _jamba(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    writer.add_head_count(HEADS)
    kv_heads = [KV_HEADS if layer % 2 else 0 for layer in range(LAYERS)]
    writer.add_head_count_kv(kv_heads)
    _ssm_numbers(writer)
    for layer, heads in enumerate(kv_heads):
        block = f"blk.{layer}"
        weights.put(f"{block}.attn_norm.weight", DIM)
        if heads:
            _attention(weights, block, DIM // HEADS)
        else:
            _ssm_block(weights, block)
            weights.put(f"{block}.ssm_dt_norm.weight", DT_RANK)
            weights.put(f"{block}.ssm_b_norm.weight", D_STATE)
            weights.put(f"{block}.ssm_c_norm.weight", D_STATE)
        _feed_forward(weights, block)


def _gemma3(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    head_dim = 32
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_sliding_window(WINDOW)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for norm in ("attn_norm", "post_attention_norm", "post_ffw_norm"):
            weights.put(f"{block}.{norm}.weight", DIM)
        weights.put(f"{block}.attn_q_norm.weight", head_dim)
        weights.put(f"{block}.attn_k_norm.weight", head_dim)
        _attention(weights, block, head_dim)
        _feed_forward(weights, block)
