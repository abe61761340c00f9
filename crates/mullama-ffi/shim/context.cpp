// Guards the calls on a context: decoding, its memory, its state, and its compute threads.

#include "guard.h"
#include "variant.h"

#include "ggml-cpu.h"

#include <vector>

using namespace mullama;

int32_t mullama_context_new(llama_model * model, const ml_context_options * options, llama_context ** out) {
    *out = nullptr;
    return guarded([&] {
        auto params                = llama_context_default_params();
        params.n_ctx               = options->n_ctx;
        params.n_batch             = options->n_batch;
        params.n_ubatch            = options->n_ubatch;
        params.n_seq_max           = options->n_seq_max;
        params.n_outputs_max       = options->n_outputs_max;
        params.n_threads           = options->n_threads;
        params.n_threads_batch     = options->n_threads_batch;
        params.flash_attn_type     = (llama_flash_attn_type) options->flash_attn;
        params.type_k              = (ggml_type) options->type_k;
        params.type_v              = (ggml_type) options->type_v;
        params.kv_unified          = true;
        params.swa_full            = true;
        params.no_perf             = true;
        params.abort_callback      = options->should_abort;
        params.abort_callback_data = const_cast<void *>(options->abort_flag);
        *out = llama_init_from_model(model, params);
    });
}

int32_t mullama_context_free(llama_context * context) {
    return guarded([&] { llama_free(context); });
}

int32_t mullama_context_facts(llama_context * context, ml_context_facts * out) {
    return guarded([&] {
        const auto memory = llama_get_memory(context);

        *out            = {};
        out->n_ctx      = llama_n_ctx(context);
        out->n_batch    = llama_n_batch(context);
        out->n_ubatch   = llama_n_ubatch(context);
        out->n_seq_max  = llama_n_seq_max(context);
        out->has_memory = memory != nullptr;
        out->can_shift  = memory && llama_memory_can_shift(memory);
        out->causal     = llama_get_causal_attn(context);
    });
}

int32_t mullama_decode(llama_context * context, const ml_batch * batch, int32_t * result) {
    return guarded([&] {
        // llama_batch has a list of sequences per token; ours has exactly one.
        static thread_local std::vector<int32_t>        ones;
        static thread_local std::vector<llama_seq_id *> sequences;

        const size_t n = (size_t) batch->n_tokens;
        if (ones.size() < n) {
            ones.resize(n, 1);
            sequences.resize(n);
        }
        for (size_t i = 0; i < n; ++i) {
            sequences[i] = const_cast<llama_seq_id *>(batch->sequences + i);
        }

        llama_batch raw = {};
        raw.n_tokens    = batch->n_tokens;
        raw.token       = const_cast<llama_token *>(batch->tokens);
        raw.pos         = const_cast<llama_pos *>(batch->positions);
        raw.n_seq_id    = ones.data();
        raw.seq_id      = sequences.data();
        raw.logits      = const_cast<int8_t *>(batch->outputs);
        *result = llama_decode(context, raw);
    });
}

int32_t mullama_synchronize(llama_context * context) {
    return guarded([&] { llama_synchronize(context); });
}

int32_t mullama_logits(llama_context * context, int32_t row, const float ** out) {
    *out = nullptr;
    return guarded([&] { *out = llama_get_logits_ith(context, row); });
}

int32_t mullama_seq(llama_context * context, int32_t op, const ml_span * span, int32_t argument, int32_t * result) {
    *result = 0;
    return guarded([&] {
        const auto memory = llama_get_memory(context);
        switch (op) {
            case ML_SEQ_REMOVE: *result = llama_memory_seq_rm(memory, span->seq, span->from, span->to); break;
            case ML_SEQ_COPY:   llama_memory_seq_cp(memory, span->seq, argument, span->from, span->to); break;
            case ML_SEQ_SHIFT:  llama_memory_seq_add(memory, span->seq, span->from, span->to, argument); break;
            case ML_SEQ_KEEP:   llama_memory_seq_keep(memory, span->seq); break;
            case ML_SEQ_MIN:    *result = llama_memory_seq_pos_min(memory, span->seq); break;
            case ML_SEQ_MAX:    *result = llama_memory_seq_pos_max(memory, span->seq); break;
            case ML_SEQ_CLEAR:  llama_memory_clear(memory, false); break;
            default:            break;
        }
    });
}

int32_t mullama_state_size(llama_context * context, int32_t seq, size_t * out) {
    *out = 0;
    return guarded([&] { *out = llama_state_seq_get_size(context, seq); });
}

int32_t mullama_state_get(llama_context * context, int32_t seq, uint8_t * out, size_t capacity, size_t * written) {
    *written = 0;
    return guarded([&] { *written = llama_state_seq_get_data(context, out, capacity, seq); });
}

int32_t mullama_state_set(llama_context * context, int32_t seq, const uint8_t * bytes, size_t size, size_t * read) {
    *read = 0;
    return guarded([&] { *read = llama_state_seq_set_data(context, bytes, size, seq); });
}

int32_t mullama_pool_new(int32_t n_threads, uint32_t poll, ggml_threadpool ** out) {
    *out = nullptr;
    return guarded([&] {
        auto params   = ggml_threadpool_params_default(n_threads);
        params.poll   = poll;
        params.paused = true; // asleep until the first decode
        *out = cpu().threadpool_new(&params);
    });
}

int32_t mullama_pool_free(ggml_threadpool * pool) {
    return guarded([&] { cpu().threadpool_free(pool); });
}

int32_t mullama_pool_pause(ggml_threadpool * pool) {
    return guarded([&] { cpu().threadpool_pause(pool); });
}

int32_t mullama_pool_attach(llama_context * context, const ml_pools * pools) {
    return guarded([&] {
        llama_attach_threadpool(context, pools->single, pools->batch);
        llama_set_n_threads(context, pools->n_threads, pools->n_threads_batch);
    });
}
