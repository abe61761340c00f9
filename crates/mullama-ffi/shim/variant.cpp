// Loads ggml's backends from libraries by their absolute path, and finds the functions of the CPU backend.

#include "guard.h"
#include "variant.h"

#include "ggml-backend.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <dlfcn.h>

namespace mullama {

#ifdef MULLAMA_PORTABLE

static cpu_functions functions = {};

const cpu_functions & cpu() noexcept {
    return functions;
}

template <typename Function>
static void find(void * library, const char * name, Function & out) {
    out = reinterpret_cast<Function>(dlsym(library, name));
    if (!out) {
        throw std::runtime_error(std::string("the CPU backend lacks ") + name);
    }
}

void load_variant(const char * path) {
    // ggml opens the same library, and would only log why it cannot be opened. It is never closed.
    void * library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char * reason = dlerror();
        throw std::runtime_error(reason ? reason : std::string("not loaded: ") + path);
    }
    if (!ggml_backend_load(path)) {
        throw std::runtime_error(std::string("ggml refused ") + path);
    }
    find(library, "ggml_threadpool_new", functions.threadpool_new);
    find(library, "ggml_threadpool_free", functions.threadpool_free);
    find(library, "ggml_threadpool_pause", functions.threadpool_pause);
}

#else

const cpu_functions & cpu() noexcept {
    static const cpu_functions functions = { ggml_threadpool_new, ggml_threadpool_free, ggml_threadpool_pause };
    return functions;
}

void load_variant(const char *) {}

#endif

} // namespace mullama

#ifdef MULLAMA_PORTABLE

using namespace mullama;

int32_t mullama_library_path(char * out, size_t capacity) {
    return guarded([&] {
        Dl_info info = {};
        // The address is that of the function itself, in the library of ggml that the loader bound.
        if (!dladdr(reinterpret_cast<void *>(ggml_backend_load), &info) || !info.dli_fname) {
            throw std::runtime_error("the loader does not know ggml's library");
        }
        // Where the file is a symbolic link, the loader searches the link's folder for other libraries, and so does mullama:
        // some installers make a link of each file, and need not put the files themselves beside each other.
        const std::string file(info.dli_fname);
        const size_t      name   = file.rfind('/') + 1;
        char *            folder = realpath(name == 0 ? "." : file.substr(0, name).c_str(), nullptr);
        if (!folder) {
            throw std::runtime_error("no such library: " + file);
        }
        const int length = std::snprintf(out, capacity, "%s/%s", folder, file.c_str() + name);
        std::free(folder);
        if (length < 0 || (size_t) length >= capacity) {
            throw std::runtime_error("the path of ggml's library is too long");
        }
    });
}

int32_t mullama_plugin_load(const char * path, int64_t * devices) {
    *devices = -1;
    return guarded([&] {
        if (auto * backend = ggml_backend_load(path)) {
            *devices = (int64_t) ggml_backend_reg_dev_count(backend);
        }
    });
}

#endif
