//! Which of ggml's variants of the CPU backend run on this processor.

/// A variant of the CPU backend, with what it was compiled for (`ggml/src/CMakeLists.txt` of llama.cpp has the list).
struct Variant {
    name: &'static str,
    runs: fn() -> bool,
}

/// From the best to the one that runs everywhere.
const VARIANTS: [Variant; 8] = [
    Variant { name: "sapphirerapids", runs: || has_amx() && zen4() },
    Variant { name: "zen4", runs: zen4 },
    Variant { name: "icelake", runs: icelake },
    Variant { name: "skylakex", runs: skylakex },
    Variant { name: "alderlake", runs: || haswell() && is_x86_feature_detected!("avxvnni") },
    Variant { name: "haswell", runs: haswell },
    Variant { name: "sse42", runs: || is_x86_feature_detected!("sse4.2") },
    Variant { name: "x64", runs: || true },
];

/// The names of the variants that run here, from the best on.
///
/// ggml itself asks each library for a score. That loads them all, which runs initialisers that were compiled for processors
/// that this one may not be, and ignores whether the system saves the wider registers.
pub(super) fn variants() -> impl Iterator<Item = &'static str> {
    VARIANTS.iter().filter(|variant| (variant.runs)()).map(|variant| variant.name)
}

fn zen4() -> bool {
    icelake() && is_x86_feature_detected!("avx512bf16")
}

fn icelake() -> bool {
    skylakex() && is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512vnni")
}

fn skylakex() -> bool {
    haswell()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
}

fn haswell() -> bool {
    is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi2")
}

/// Whether the processor has AMX with 8-bit integers. Whether the system permits it is asked by ggml.
fn has_amx() -> bool {
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    let features = core::arch::x86_64::__cpuid_count(7, 0).edx;
    features & AMX_TILE != 0 && features & AMX_INT8 != 0
}
