# Limits llama.cpp's GGML_CPU_ALL_VARIANTS to the variants that a release ships: the others would be compiled for nothing.
#
# CMake reads this file after each `project()`, because CMAKE_PROJECT_INCLUDE names it. ggml sets GGML_CPU_TAG_NAME directly
# before it adds a variant, and at the first time all functions that are replaced here exist.

if (NOT CMAKE_MULLAMA_CPU_VARIANTS)
    message(FATAL_ERROR "CMAKE_MULLAMA_CPU_VARIANTS must name the CPU variants to compile")
endif()

function(mullama_limit_variants variable access)
    if (access STREQUAL "MODIFIED_ACCESS" AND NOT COMMAND _ggml_add_cpu_backend_variant_impl)
        function(ggml_add_cpu_backend_variant_impl tag_name)
            if (tag_name IN_LIST CMAKE_MULLAMA_CPU_VARIANTS)
                _ggml_add_cpu_backend_variant_impl(${tag_name})
            endif()
        endfunction()
    endif()
endfunction()

if (PROJECT_IS_TOP_LEVEL OR CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
    variable_watch(GGML_CPU_TAG_NAME mullama_limit_variants)
endif()
