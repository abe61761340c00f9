// Runs a call of llama.cpp so that neither an exception nor a failed assertion leaves it.
#pragma once

#include "mullama_shim.h"

#include <exception>
#include <new>
#include <stdexcept>

namespace mullama {

// The exception of the abort hook. It derives from std::exception so that llama.cpp's own handlers clean up when it
// passes.
struct assertion_failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The number of guarded calls on this thread's stack, and whether an assertion fired inside the innermost one.
extern thread_local int  guard_depth;
extern thread_local bool assertion_fired;

void set_last_error(const char * text) noexcept;

struct guard_scope {
    guard_scope() noexcept {
        ++guard_depth;
        assertion_fired = false;
    }
    ~guard_scope() {
        --guard_depth;
    }
};

template <typename Body>
int32_t guarded(Body && body) noexcept {
    const guard_scope scope;
    try {
        body();
    } catch (const assertion_failure &) {
        return ML_ASSERTION;
    } catch (const std::bad_alloc &) {
        set_last_error("out of memory");
        return ML_OUT_OF_MEMORY;
    } catch (const std::exception & error) {
        set_last_error(error.what());
        return ML_EXCEPTION;
    } catch (...) {
        set_last_error("an exception of an unknown type");
        return ML_EXCEPTION;
    }
    // llama.cpp catches some exceptions itself; an assertion still means that its state cannot be trusted.
    return assertion_fired ? ML_ASSERTION : ML_OK;
}

} // namespace mullama
