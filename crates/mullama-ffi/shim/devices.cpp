// Guards the calls that list the devices which llama.cpp can compute on.

#include "guard.h"

#include "ggml-backend.h"

#include <cstdio>

using namespace mullama;

static void copy_text(char * out, size_t capacity, const char * text) {
    std::snprintf(out, capacity, "%s", text ? text : "");
}

int32_t mullama_devices(ml_device * out, size_t capacity, size_t * count) {
    *count = 0;
    return guarded([&] {
        const size_t devices = ggml_backend_dev_count();
        for (size_t index = 0; index < devices && *count < capacity; ++index) {
            const ggml_backend_dev_t device = ggml_backend_dev_get(index);
            ml_device &              entry  = out[*count];

            entry      = {};
            entry.type = ggml_backend_dev_type(device);
            copy_text(entry.name, sizeof(entry.name), ggml_backend_dev_name(device));
            copy_text(entry.description, sizeof(entry.description), ggml_backend_dev_description(device));

            size_t memory_free  = 0;
            size_t memory_total = 0;
            ggml_backend_dev_memory(device, &memory_free, &memory_total);
            entry.memory_free  = memory_free;
            entry.memory_total = memory_total;
            ++*count;
        }
    });
}
