// Guards the calls that load a model, describe it, and turn text into tokens and back.

#include "guard.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace mullama;

static bool keep_loading(float, void *) {
    return true;
}

static llama_load_mode load_mode(const ml_model_options & options) {
    if (options.use_mmap) {
        return options.use_mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK : LLAMA_LOAD_MODE_MMAP;
    }
    return options.use_mlock ? LLAMA_LOAD_MODE_MLOCK : LLAMA_LOAD_MODE_NONE;
}

int32_t mullama_model_load(const char * path, const ml_model_options * options, ml_progress progress, void * user_data, llama_model ** out) {
    *out = nullptr;
    return guarded([&] {
        auto params                        = llama_model_default_params();
        params.n_gpu_layers                = options->n_gpu_layers;
        params.load_mode                   = load_mode(*options);
        params.check_tensors               = options->check_tensors;
        params.vocab_only                  = options->vocab_only;
        // llama.cpp's own callback prints dots into the log.
        params.progress_callback           = progress ? progress : keep_loading;
        params.progress_callback_user_data = user_data;
        *out = llama_model_load_from_file(path, params);
    });
}

void mullama_model_free(llama_model * model) {
    guarded([&] { llama_model_free(model); });
}

int32_t mullama_model_facts(const llama_model * model, bool vocab_only, ml_model_facts * out) {
    return guarded([&] {
        *out              = {};
        out->n_params     = llama_model_n_params(model);
        out->size         = llama_model_size(model);
        out->n_metadata   = llama_model_meta_count(model);
        out->is_recurrent = llama_model_is_recurrent(model);
        out->is_hybrid    = llama_model_is_hybrid(model);
        out->is_diffusion = llama_model_is_diffusion(model);
        out->has_encoder  = llama_model_has_encoder(model);
        out->has_decoder  = llama_model_has_decoder(model);
        if (vocab_only) {
            return; // the hyperparameters were not read, and asking for the heads of layer 0 would abort
        }
        out->n_ctx_train = llama_model_n_ctx_train(model);
        out->n_embd      = llama_model_n_embd(model);
        out->n_layer     = llama_model_n_layer(model);
        out->n_head      = llama_model_n_head(model);
        out->n_head_kv   = llama_model_n_head_kv(model);
        out->n_swa       = llama_model_n_swa(model);
    });
}

int32_t mullama_model_text(const llama_model * model, int32_t which, int32_t index, char * out, size_t capacity, int64_t * length) {
    *length = -1;
    return guarded([&] {
        switch (which) {
            case ML_TEXT_DESC:
                *length = llama_model_desc(model, out, capacity);
                break;
            case ML_TEXT_CHAT_TEMPLATE:
                if (const char * text = llama_model_chat_template(model, nullptr)) {
                    const size_t bytes = std::strlen(text);
                    std::memcpy(out, text, bytes < capacity ? bytes : capacity);
                    *length = (int64_t) bytes;
                }
                break;
            case ML_TEXT_META_KEY:
                *length = llama_model_meta_key_by_index(model, index, out, capacity);
                break;
            case ML_TEXT_META_VALUE:
                *length = llama_model_meta_val_str_by_index(model, index, out, capacity);
                break;
            default:
                break;
        }
    });
}

int32_t mullama_vocab_facts(const llama_model * model, const llama_vocab ** vocab, ml_vocab_facts * out) {
    return guarded([&] {
        const llama_vocab * v = llama_model_get_vocab(model);

        *vocab        = v;
        *out          = {};
        out->type     = llama_vocab_type(v);
        out->n_tokens = llama_vocab_n_tokens(v);
        out->bos      = llama_vocab_bos(v);
        out->eos      = llama_vocab_eos(v);
        out->eot      = llama_vocab_eot(v);
        out->nl       = llama_vocab_nl(v);
        out->pad      = llama_vocab_pad(v);
        out->add_bos  = llama_vocab_get_add_bos(v);
        out->add_eos  = llama_vocab_get_add_eos(v);
    });
}

int32_t mullama_vocab_eog(const llama_vocab * vocab, int32_t * out, size_t capacity, size_t * count) {
    *count = 0;
    return guarded([&] {
        const int32_t n_tokens = llama_vocab_n_tokens(vocab);
        for (int32_t token = 0; token < n_tokens; ++token) {
            if (llama_vocab_is_eog(vocab, token)) {
                if (*count < capacity) {
                    out[*count] = token;
                }
                ++*count;
            }
        }
    });
}

void mullama_keep_statics_at_exit(void) {
#ifdef __GLIBC__
    // The handler that was registered last runs first: before the destructors of the objects that llama.cpp has created
    // so far.
    on_exit([](int status, void *) { fflush(nullptr); _Exit(status); }, nullptr);
#endif
}

int32_t mullama_vocab_is_control(const llama_vocab * vocab, int32_t token, bool * out) {
    return guarded([&] { 
        // The tokenizer reads text as this token only if it parses special tokens.
        *out = (llama_vocab_get_attr(vocab, token) & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) != 0;
    });
}

int32_t mullama_vocab_attr(const llama_vocab * vocab, int32_t token, int32_t * out) {
    *out = 0;
    return guarded([&] { *out = (int32_t) llama_vocab_get_attr(vocab, token); });
}

int32_t mullama_vocab_adds_space(const llama_vocab * vocab, bool * out) {
    *out = false;
    return guarded([&] {
        // llama.cpp has no function for this, but the tokens of a letter reveal it.
        llama_token   tokens[8];
        char          piece[32];
        const int32_t count  = llama_tokenize(vocab, "a", 1, tokens, 8, false, false);
        const int32_t length = count > 0 ? llama_token_to_piece(vocab, tokens[0], piece, (int32_t) sizeof(piece), 0, false) : 0;
        *out = length > 0 && piece[0] == ' ';
    });
}

int32_t mullama_vocab_text(const llama_vocab * vocab, int32_t token, const char ** out) {
    *out = nullptr;
    return guarded([&] { *out = llama_vocab_get_text(vocab, token); });
}

int32_t mullama_vocab_piece(const llama_vocab * vocab, int32_t token, bool special, char * out, int32_t capacity, int32_t * length) {
    *length = 0;
    return guarded([&] { *length = llama_token_to_piece(vocab, token, out, capacity, 0, special); });
}

int32_t mullama_tokenize(const llama_vocab * vocab, const char * text, int32_t bytes, int32_t * out, int32_t capacity, int32_t flags, int32_t * count) {
    *count = 0;
    return guarded([&] {
        const bool add_special   = flags & 1;
        const bool parse_special = flags & 2;
        *count = llama_tokenize(vocab, text, bytes, out, capacity, add_special, parse_special);
    });
}
