// The C interface of the shim: every call of llama.cpp that Rust makes goes through one of these functions.
//
// A function returns ML_OK, or the kind of failure with its text in mullama_last_error(); results are returned through
// pointers. No function throws a C++ exception. The Rust side of this header is src/sys.rs.
#pragma once

#include "llama.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ml_status {
    ML_OK            = 0,
    ML_EXCEPTION     = 1,
    ML_ASSERTION     = 2,
    ML_OUT_OF_MEMORY = 3,
};

typedef void (*ml_log)(int32_t level, const char * text);
typedef bool (*ml_progress)(float fraction, void * user_data);

struct ml_model_options {
    int32_t n_gpu_layers;
    bool    use_mmap;
    bool    use_mlock;
    bool    check_tensors;
    bool    vocab_only;
};

struct ml_model_facts {
    uint64_t n_params;
    uint64_t size;
    int32_t  n_ctx_train;
    int32_t  n_embd;
    int32_t  n_layer;
    int32_t  n_head;
    int32_t  n_head_kv;
    int32_t  n_swa;
    int32_t  n_metadata;
    bool     is_recurrent;
    bool     is_hybrid;
    bool     is_diffusion;
    bool     has_encoder;
    bool     has_decoder;
};

struct ml_device {
    char     name[64];
    char     description[128];
    uint64_t memory_free;
    uint64_t memory_total;
    int32_t  type; // ggml_backend_dev_type
};

struct ml_vocab_facts {
    int32_t type;
    int32_t n_tokens;
    int32_t bos;
    int32_t eos;
    int32_t eot;
    int32_t nl;
    int32_t pad;
    bool    add_bos;
    bool    add_eos;
};

enum ml_text {
    ML_TEXT_DESC          = 0,
    ML_TEXT_CHAT_TEMPLATE = 1,
    ML_TEXT_META_KEY      = 2,
    ML_TEXT_META_VALUE    = 3,
};

struct ml_context_options {
    uint32_t        n_ctx;
    uint32_t        n_batch;
    uint32_t        n_ubatch;
    uint32_t        n_seq_max;
    uint32_t        n_outputs_max;
    int32_t         n_threads;
    int32_t         n_threads_batch;
    int32_t         flash_attn;
    int32_t         type_k;
    int32_t         type_v;
    bool (*should_abort)(void *);
    const void * abort_flag;
};

struct ml_context_facts {
    uint32_t n_ctx;
    uint32_t n_batch;
    uint32_t n_ubatch;
    uint32_t n_seq_max;
    bool     has_memory;
    bool     can_shift;
    bool     causal;
};

struct ml_batch {
    int32_t         n_tokens;
    const int32_t * tokens;
    const int32_t * positions;
    const int32_t * sequences;
    const int8_t  * outputs;
};

struct ml_pools {
    ggml_threadpool * single;
    ggml_threadpool * batch;
    int32_t           n_threads;
    int32_t           n_threads_batch;
};

struct ml_span {
    int32_t seq;
    int32_t from;
    int32_t to;
};

enum ml_seq_op {
    ML_SEQ_REMOVE = 0, // argument unused; result: whether it could be removed
    ML_SEQ_COPY   = 1, // argument: the destination sequence
    ML_SEQ_SHIFT  = 2, // argument: what is added to each position
    ML_SEQ_KEEP   = 3, // every other sequence is removed
    ML_SEQ_MIN    = 4, // result: the smallest position, or -1
    ML_SEQ_MAX    = 5, // result: the largest position, or -1
    ML_SEQ_CLEAR  = 6, // all sequences are removed
};

struct ml_sampler_options {
    float    temperature;
    float    dynatemp_range;
    float    dynatemp_exponent;
    int32_t  top_k;
    float    top_p;
    float    min_p;
    float    typical_p;
    float    top_n_sigma;
    float    xtc_probability;
    float    xtc_threshold;
    float    repeat_penalty;
    float    frequency_penalty;
    float    presence_penalty;
    int32_t  repeat_last_n;
    float    dry_multiplier;
    float    dry_base;
    int32_t  dry_allowed_length;
    int32_t  dry_penalty_last_n;
    int32_t  mirostat;
    float    mirostat_tau;
    float    mirostat_eta;
    uint32_t seed;
    int32_t  n_vocab;
    bool     greedy;
    size_t   n_dry_breakers;
    size_t   n_logit_bias;
    const char **            dry_breakers;
    const llama_logit_bias * logit_bias;
};

enum ml_sampled {
    ML_SAMPLED_TOKEN      = 0,
    ML_SAMPLED_NON_FINITE = 1, // a NaN or an infinity among the logits, or nothing but -inf
    ML_SAMPLED_NOTHING    = 2, // the chain chose no candidate
};

struct ml_sampler;

const char * mullama_last_error(void);
int32_t mullama_init(ml_log log, const char * variant);
// Only with MULLAMA_PORTABLE.
int32_t mullama_library_path(char * out, size_t capacity);
int32_t mullama_plugin_load(const char * path, int64_t * devices);
const char * mullama_system_info(void);
size_t mullama_size_of(int32_t which);
int32_t mullama_fail(int32_t status);
int32_t mullama_devices(ml_device * out, size_t capacity, size_t * count);

int32_t mullama_model_load(const char * path, const ml_model_options * options, ml_progress progress, void * user_data, llama_model ** out);
void    mullama_model_free(llama_model * model);
int32_t mullama_model_facts(const llama_model * model, bool vocab_only, ml_model_facts * out);
int32_t mullama_model_text(const llama_model * model, int32_t which, int32_t index, char * out, size_t capacity, int64_t * length);

int32_t mullama_vocab_facts(const llama_model * model, const llama_vocab ** vocab, ml_vocab_facts * out);
int32_t mullama_vocab_adds_space(const llama_vocab * vocab, bool * out);
int32_t mullama_vocab_eog(const llama_vocab * vocab, int32_t * out, size_t capacity, size_t * count);
void mullama_keep_statics_at_exit(void);
int32_t mullama_vocab_is_control(const llama_vocab * vocab, int32_t token, bool * out);
int32_t mullama_vocab_attr(const llama_vocab * vocab, int32_t token, int32_t * out);
int32_t mullama_vocab_text(const llama_vocab * vocab, int32_t token, const char ** out);
int32_t mullama_vocab_piece(const llama_vocab * vocab, int32_t token, bool special, char * out, int32_t capacity, int32_t * length);
int32_t mullama_tokenize(const llama_vocab * vocab, const char * text, int32_t bytes, int32_t * out, int32_t capacity, int32_t flags, int32_t * count);

int32_t mullama_context_new(llama_model * model, const ml_context_options * options, llama_context ** out);
int32_t mullama_context_free(llama_context * context);
int32_t mullama_context_facts(llama_context * context, ml_context_facts * out);
int32_t mullama_decode(llama_context * context, const ml_batch * batch, int32_t * result);
int32_t mullama_synchronize(llama_context * context);
int32_t mullama_logits(llama_context * context, int32_t row, const float ** out);
int32_t mullama_seq(llama_context * context, int32_t op, const ml_span * span, int32_t argument, int32_t * result);
int32_t mullama_state_size(llama_context * context, int32_t seq, size_t * out);
int32_t mullama_state_get(llama_context * context, int32_t seq, uint8_t * out, size_t capacity, size_t * written);
int32_t mullama_state_set(llama_context * context, int32_t seq, const uint8_t * bytes, size_t size, size_t * read);

int32_t mullama_pool_new(int32_t n_threads, uint32_t poll, ggml_threadpool ** out);
int32_t mullama_pool_free(ggml_threadpool * pool);
int32_t mullama_pool_pause(ggml_threadpool * pool);
int32_t mullama_pool_attach(llama_context * context, const ml_pools * pools);

int32_t mullama_sampler_new(const llama_vocab * vocab, const ml_sampler_options * options, ml_sampler ** out);
void    mullama_sampler_free(ml_sampler * sampler);
void    mullama_sampler_trim(ml_sampler * sampler);
int32_t mullama_sampler_sample(ml_sampler * sampler, const float * logits, int32_t * token, int32_t * sampled);
int32_t mullama_sampler_accept(ml_sampler * sampler, int32_t token);
int32_t mullama_sampler_reset(ml_sampler * sampler);

#ifdef __cplusplus
}
#endif
