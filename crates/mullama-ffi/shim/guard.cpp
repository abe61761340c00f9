// Owns the global state: llama.cpp's initialisation, its log, its abort hook, and the text of the last error.

#include "guard.h"
#include "variant.h"

#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mullama {

thread_local int  guard_depth     = 0;
thread_local bool assertion_fired = false;

static thread_local char last_error[2048] = {};

static ml_log log_sink = nullptr;

void set_last_error(const char * text) noexcept {
    std::snprintf(last_error, sizeof(last_error), "%s", text);
}

// Without this, ggml forks a debugger when the process aborts, which is slow and can hang in a container. Its static
// initialisers read the variable, so it is set before them.
__attribute__((constructor(101))) static void no_backtrace() {
    setenv("GGML_NO_BACKTRACE", "1", 1);
}

static void on_log(ggml_log_level level, const char * text, void *) {
    if (log_sink && text) {
        log_sink(level, text);
    }
}

// ggml calls this directly before abort(). Throwing is the only way to prevent it, and works only if a guard below
// catches it.
static void on_abort(const char * message) {
    set_last_error(message);
    if (guard_depth > 0 && std::uncaught_exceptions() == 0) {
        assertion_fired = true;
        throw assertion_failure(message);
    }
    on_log(GGML_LOG_LEVEL_ERROR, message, nullptr);
    on_log(GGML_LOG_LEVEL_ERROR, "\n", nullptr);
    // The process ends now; without this line a program without a log would give no reason.
    std::fprintf(stderr, "llama.cpp: %s\n", message);
}

// GCC before 12.4 and 13.3 tells the optimiser that loading an AMX tile configuration reads only 8 of its 64 bytes; the
// others are then never written, and the instruction faults on uninitialised stack. A fixed GCC has a builtin for it,
// and so has clang.
#if defined(__x86_64__) && !__has_builtin(__builtin_ia32_ldtilecfg)
constexpr bool AMX_WORKS = false;
#else
constexpr bool AMX_WORKS = true;
#endif

// Removes AMX from the buffer types in which the CPU backend puts weights, so that its kernels never run.
static void forget_amx() {
    auto * cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!cpu) {
        return;
    }
    auto * list_extra = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    if (!list_extra) {
        return;
    }
    // The list belongs to the backend, ends in null, and is read at every load.
    auto * kept = list_extra(cpu);
    for (auto * entry = kept; entry && *entry; ++entry) {
        if (std::strcmp(ggml_backend_buft_name(*entry), "AMX") != 0) {
            *kept++ = *entry;
        }
    }
    if (kept) {
        *kept = nullptr;
    }
}

} // namespace mullama

using namespace mullama;

const char * mullama_last_error(void) {
    return last_error;
}

int32_t mullama_init(ml_log log, const char * variant) {
    return guarded([&] {
        log_sink = log;
        llama_log_set(on_log, nullptr);
        ggml_set_abort_callback(on_abort);
        // With a backend registered, llama_backend_init() does not search the executable's folder and the current directory.
        load_variant(variant);
        llama_backend_init();
        if (!AMX_WORKS) {
            forget_amx();
        }
    });
}

const char * mullama_system_info(void) {
    return llama_print_system_info();
}

size_t mullama_size_of(int32_t which) {
    switch (which) {
        case 0: return sizeof(llama_model_params);
        case 1: return sizeof(llama_context_params);
        case 2: return sizeof(llama_logit_bias);
        case 3: return sizeof(llama_batch);
        case 4: return sizeof(ml_model_options);
        case 5: return sizeof(ml_model_facts);
        case 6: return sizeof(ml_vocab_facts);
        case 7: return sizeof(ml_context_options);
        case 8: return sizeof(ml_context_facts);
        case 9: return sizeof(ml_batch);
        case 10: return sizeof(ml_sampler_options);
        case 11: return sizeof(ml_span);
        case 12: return sizeof(ml_pools);
        case 13: return sizeof(ml_device);
        default: return 0;
    }
}

int32_t mullama_fail(int32_t status) {
    return guarded([&] {
        switch (status) {
            case ML_EXCEPTION:     throw std::runtime_error("an exception, on demand");
            case ML_ASSERTION:     GGML_ABORT("an assertion, on demand");
            case ML_OUT_OF_MEMORY: throw std::bad_alloc();
            default:               break;
        }
    });
}
