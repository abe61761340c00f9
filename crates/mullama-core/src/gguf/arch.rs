//! What llama.cpp does differently for some model architectures, as far as a corrupt header could hurt it there.

/// Layers without attention: recurrent models, and a decoder of sound.
const WITHOUT_ATTENTION: &[&str] = &["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7", "wavtokenizer-dec"];

/// Architectures that say which layers have no attention by giving them no heads for keys and values.
const SKIPPING_ATTENTION: &[&str] = &[
    "bailingmoe3",
    "deci",
    "glm5-next",
    "granitehybrid",
    "jamba",
    "kimi-k3",
    "kimi-linear",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "plamo2",
];

/// Architectures whose `LLAMA_ROPE_TYPE` is none.
const WITHOUT_ROTATION: &[&str] = &[
    "gpt2",
    "gptj",
    "mpt",
    "refact",
    "bloom",
    "mamba",
    "mamba2",
    "jamba",
    "jina-bert-v2",
    "t5",
    "t5encoder",
    "jais",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
    "arwkv7",
    "wavtokenizer-dec",
    "nemotron_h",
    "nemotron_h_moe",
    "kimi-linear",
    "kimi-k3",
    "glm5-next",
];

/// Architectures that always rotate by sections (`LLAMA_ROPE_TYPE_MROPE` and `_IMROPE`).
const ROTATING_SECTIONS: &[&str] =
    &["qwen2vl", "paddleocr", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "clef", "qwen4exp", "qwen3tts"];

/// Architectures that divide by the number of experts used without looking at it first.
const DIVIDING_BY_EXPERTS_USED: &[&str] =
    &["qwen3next", "qwen35moe", "glm4moe", "grovemoe", "llada-moe", "qwen4exp", "nemotron_h_moe"];

/// Decoders whose blocks are made of the matrices that everyone knows, of the same size in every block or by its heads.
const PLAIN_DECODERS: &[&str] = &[
    "llama",
    "mistral3",
    "qwen2",
    "qwen2vl",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3",
    "stablelm",
    "starcoder2",
    "internlm2",
    "olmo",
    "olmo2",
    "command-r",
    "cohere2",
    "granite",
    "exaone",
    "smollm3",
    "seed_oss",
    "arcee",
    "minicpm",
    "orion",
    "xverse",
    "baichuan",
    "nemotron",
    "ernie4_5",
    "hunyuan-dense",
];

/// An architecture's name, and what follows from it.
#[derive(Debug)]
pub(super) struct Arch {
    name: String,
}

impl Arch {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_of(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }

    /// Picture encoders are no language models; llama.cpp says so itself.
    pub(super) fn is_language_model(&self) -> bool {
        self.name != "clip"
    }

    pub(super) fn is_plain_decoder(&self) -> bool {
        self.is_of(PLAIN_DECODERS)
    }

    pub(super) fn may_lack_attention(&self) -> bool {
        self.is_of(WITHOUT_ATTENTION)
    }

    pub(super) fn may_skip_attention(&self) -> bool {
        self.is_of(SKIPPING_ATTENTION) || self.may_lack_attention()
    }

    pub(super) fn rotates(&self) -> bool {
        !self.is_of(WITHOUT_ROTATION)
    }

    pub(super) fn rotates_sections(&self) -> bool {
        self.is_of(ROTATING_SECTIONS)
    }

    pub(super) fn ignores_one_expert(&self) -> bool {
        self.is_of(&["hunyuan_vl", "hunyuan-dense"])
    }

    pub(super) fn divides_by_experts_used(&self) -> bool {
        self.is_of(DIVIDING_BY_EXPERTS_USED)
    }

    /// Some layers are no mixtures of experts, and say so by using none.
    pub(super) fn layers_differ(&self) -> bool {
        self.name == "nemotron_h_moe"
    }

    /// llama.cpp knows the indexer's cache by the length of its keys, and divides by 0 where another has the same.
    pub(super) fn confuses_indexer(&self) -> bool {
        self.name == "deepseek4"
    }

    /// Keys that llama.cpp divides by if they are there.
    pub(super) fn divisors(&self) -> &'static [&'static str] {
        match self.name.as_str() {
            // writes a group count of 0 and does not use it
            "plamo2" | "mamba" | "jamba" => &["ssm.time_step_rank"],
            _ => &["full_attention_interval", "ssm.group_count", "ssm.time_step_rank"],
        }
    }

    /// Keys that llama.cpp divides by, or chooses a kind of cache by, even if they are not there.
    pub(super) fn required_counts(&self) -> &'static [&'static str] {
        match self.name.as_str() {
            "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7" => &["wkv.head_size"],
            "afmoe" => &["attention.sliding_window"],
            "grovemoe" => &["experts_per_group"],
            "ernie4_5-moe" => &["interleave_moe_layer_step"],
            _ => &[],
        }
    }
}
