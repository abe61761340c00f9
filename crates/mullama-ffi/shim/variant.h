// The functions of ggml's CPU backend that the shim calls directly.
#pragma once

#include "ggml-cpu.h"

namespace mullama {

struct cpu_functions {
    decltype(&ggml_threadpool_new)   threadpool_new;
    decltype(&ggml_threadpool_free)  threadpool_free;
    decltype(&ggml_threadpool_pause) threadpool_pause;
};

// Valid after mullama_init().
const cpu_functions & cpu() noexcept;

// Loads the variant of the CPU backend in this library, or throws. Without MULLAMA_PORTABLE the backend is linked in and
// the path is null.
void load_variant(const char * path);

} // namespace mullama
