# What a release changes in the build of llama.cpp. CMake reads this file after each `project()`, because
# CMAKE_PROJECT_INCLUDE names it.
#
# Only the variants of the CPU backend that CMAKE_MULLAMA_CPU_VARIANTS names are compiled: ggml would compile more. ggml sets
# GGML_CPU_TAG_NAME directly before it adds a variant, and at the first time all functions that are replaced here exist.
#
# The libraries have a SONAME of mullama's. The loader takes a library that the process already has for every other one of
# the same SONAME, wherever that one lies, and llama.cpp has the same SONAME in each version.
#
# The folder of this build, where ggml's own search for backends would look first, is not compiled in.

function(mullama_limit_variants variable access)
    if (access STREQUAL "MODIFIED_ACCESS" AND NOT COMMAND _ggml_add_cpu_backend_variant_impl)
        function(ggml_add_cpu_backend_variant_impl tag_name)
            if (tag_name IN_LIST CMAKE_MULLAMA_CPU_VARIANTS)
                _ggml_add_cpu_backend_variant_impl(${tag_name})
            endif()
        endfunction()
    endif()
endfunction()

function(mullama_name_libraries)
    foreach (library llama ggml ggml-base)
        set_target_properties(${library} PROPERTIES VERSION mullama SOVERSION mullama)
    endforeach()
    get_target_property(definitions ggml COMPILE_DEFINITIONS)
    if (definitions)
        list(FILTER definitions EXCLUDE REGEX "^GGML_BACKEND_DIR=")
        set_target_properties(ggml PROPERTIES COMPILE_DEFINITIONS "${definitions}")
    endif()
endfunction()

if (CMAKE_CURRENT_SOURCE_DIR STREQUAL CMAKE_SOURCE_DIR)
    if (CMAKE_MULLAMA_CPU_VARIANTS)
        variable_watch(GGML_CPU_TAG_NAME mullama_limit_variants)
    endif()
    cmake_language(DEFER CALL mullama_name_libraries)
endif()
