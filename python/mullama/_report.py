"""What `mullama doctor --json` writes: the facts and verdicts of the tables, as values."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mullama import __version__, _mullama, _plugins, _processor
from mullama._build import TARGET_FEATURES
from mullama._doctor import available, devices, fit, layers, offload, verdict
from mullama._introduction import name, quantization
from mullama._machine import cores, cpu_quota, memory, memory_limit, processor_name, usable_cpus
from mullama._output import plain
from mullama._versions import LLAMA_CPP, LLAMA_CPP_CRATE

if TYPE_CHECKING:
    from mullama import Model


def report(model: Model | None) -> dict[str, Any]:
    """Everything about this machine, and about the model if there is one. Sizes are bytes."""
    about = machine()
    return about if model is None else {**about, "model": model_facts(model)}


def machine() -> dict[str, Any]:
    """Versions, processor, memory and devices."""
    # Plug-ins bring devices, which several of the values name.
    plugins = [asdict(plugin) for plugin in _plugins.load()]
    usable, sizes = usable_cpus(), memory()
    return {
        "mullama": __version__,
        "llama_cpp": LLAMA_CPP,
        "llama_cpp_sys_2": LLAMA_CPP_CRATE,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "system_info": _mullama.system_info(),
        "processor": processor_name(),
        "logical_processors": len(usable),
        "cores": cores(usable),
        "cpu_quota": cpu_quota(),
        "threads": _mullama.usable_cores(),
        "plugins": plugins,
        "cpu_variant": _mullama.cpu_variant(),
        "compiled_for": sorted(TARGET_FEATURES),
        "verdict": verdict(_processor.feature_line()),
        "memory": None if sizes is None else sizes[0],
        "memory_available": available(),
        "memory_limit": memory_limit(),
        "devices": [asdict(device) for device in devices()],
    }


def model_facts(model: Model) -> dict[str, Any]:
    """Facts about a model, and whether it can be run here."""
    facts = model.metadata
    architecture = facts.get("general.architecture")
    length = facts.get(f"{architecture}.context_length", "")
    return {
        "path": str(model.path),
        "name": name(model),
        "architecture": None if architecture is None else plain(architecture),
        "quantization": quantization(model),
        "parameters": model.n_params,
        "size": model.size,
        "vocabulary": model.n_vocab,
        "end_tokens": list(model.end_tokens),
        "layers": layers(model),
        "gpu_layers": offload(model, layers(model), devices()),
        "context_length": int(length) if length.isdecimal() else None,
        "has_chat_template": "tokenizer.chat_template" in facts,
        "verdict": fit(model.size, available()),
    }
