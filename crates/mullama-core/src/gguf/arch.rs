//! Lists the model architectures for which llama.cpp treats a hyperparameter differently, if a corrupt header could
//! crash it.

/// Architectures without attention: recurrent models, and an audio decoder.
const WITHOUT_ATTENTION: &[&str] = &["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7", "wavtokenizer-dec"];

/// Architectures in which a layer without key and value heads is a layer without attention.
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

/// Architectures that always use rotary sections (`LLAMA_ROPE_TYPE_MROPE` and `_IMROPE`).
const ROTATING_SECTIONS: &[&str] =
    &["qwen2vl", "paddleocr", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "clef", "qwen4exp", "qwen3tts"];

/// Architectures that divide by the number of used experts without checking it first.
const DIVIDING_BY_EXPERTS_USED: &[&str] =
    &["qwen3next", "qwen35moe", "glm4moe", "grovemoe", "llada-moe", "qwen4exp", "nemotron_h_moe"];

/// Decoders whose blocks have the usual matrices, with shapes that follow from the hyperparameters.
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

/// An architecture, identified by its name in the file.
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

    /// Image encoders are not language models; llama.cpp refuses them itself.
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

    /// A layer that uses no experts is not a mixture of experts.
    pub(super) fn layers_differ(&self) -> bool {
        self.name == "nemotron_h_moe"
    }

    /// llama.cpp identifies the indexer's cache by the length of its keys, and divides by 0 if another cache has the
    /// same length.
    pub(super) fn confuses_indexer(&self) -> bool {
        self.name == "deepseek4"
    }

    /// Keys that llama.cpp divides by if they are present.
    pub(super) fn divisors(&self) -> &'static [&'static str] {
        match self.name.as_str() {
            // These files have a group count of 0, which is not used.
            "plamo2" | "mamba" | "jamba" => &["ssm.time_step_rank"],
            _ => &["full_attention_interval", "ssm.group_count", "ssm.time_step_rank"],
        }
    }

    /// Keys that llama.cpp divides by, or chooses a kind of cache by, even if they are missing.
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
