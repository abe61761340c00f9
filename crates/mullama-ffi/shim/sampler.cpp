// Owns a sampler: llama.cpp's own samplers in llama.cpp's order, and the shortest path from the logits through them.
//
// Three steps run before a candidate array exists, each with llama.cpp's results: logit biases change the logits of
// only their tokens, in a short list beside the model's logits; penalties and DRY run on only the recent tokens (they
// change no others); a small top-k that comes first picks directly from the logits. A bare greedy sampler only looks
// for the largest.

#include "candidates.h"
#include "dry.h"
#include "guard.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <unordered_map>
#include <vector>

using namespace mullama;

namespace {

struct chain_deleter {
    void operator()(llama_sampler * sampler) const {
        llama_sampler_free(sampler);
    }
};
using chain = std::unique_ptr<llama_sampler, chain_deleter>;

chain new_chain() {
    return chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
}

void add(const chain & to, llama_sampler * sampler) {
    if (!sampler) {
        throw std::runtime_error("llama.cpp refused a sampler");
    }
    llama_sampler_chain_add(to.get(), sampler);
}

// Above this llama.cpp's top-k uses a bucket sort, which returns equal logits in another order.
constexpr int32_t TOP_K_HEAP_MAX = 128;
// Every truncating sampler keeps at least one candidate.
constexpr size_t MIN_KEEP = 1;
// The value of the mirostat paper, and of llama.cpp.
constexpr int32_t MIROSTAT_M = 100;

} // namespace

struct ml_sampler {
    size_t                        n_vocab = 0;
    bool                          greedy  = false;
    int32_t                       heap_k  = 0; // above 0: the chain begins with a top-k of this many, done by find_top_k
    chain                         penalties;   // on the recent tokens; none if all of them are off
    std::unique_ptr<dry_penalty>  dry;         // the same
    chain                         rest;        // none for a greedy sampler
    recent_tokens                 recent;
    std::vector<llama_logit_bias> biases;      // sorted by token
    std::vector<changed_logit>    changed;     // what biases and penalties make of their tokens' logits, sorted by token
    std::vector<changed_logit>    biased;      // the part of it that biases alone make
    std::vector<llama_token_data> candidates;

    void          apply_biases(const float * raw);
    void          apply_penalties(const float * raw);
    ml_sampled    sample(const float * raw, int32_t & token);
    void          accept(int32_t token);
};

static void build_penalties(ml_sampler & sampler, const llama_vocab * vocab, const ml_sampler_options & o) {
    const bool penalties = o.repeat_last_n > 0 && (o.repeat_penalty != 1.0f || o.frequency_penalty != 0.0f || o.presence_penalty != 0.0f);
    const bool dry       = o.dry_multiplier > 0.0f && o.dry_penalty_last_n > 0;
    if (!penalties && !dry) {
        return;
    }
    if (penalties) {
        sampler.penalties = new_chain();
        add(sampler.penalties, llama_sampler_init_penalties(o.n_vocab, o.repeat_last_n, o.repeat_penalty, o.frequency_penalty, o.presence_penalty));
        sampler.recent.capacity = (size_t) o.repeat_last_n;
    }
    if (dry) {
        std::vector<std::string> breakers(o.dry_breakers, o.dry_breakers + o.n_dry_breakers);
        sampler.dry = std::make_unique<dry_penalty>(vocab, dry_options{ o.dry_multiplier, o.dry_base, o.dry_allowed_length, o.dry_penalty_last_n, std::move(breakers) });
        sampler.recent.capacity = std::max(sampler.recent.capacity, (size_t) o.dry_penalty_last_n);
    }
}

static void build_truncation(ml_sampler & sampler, const ml_sampler_options & o) {
    const chain & rest = sampler.rest;
    if (o.top_n_sigma > 0.0f) {
        add(rest, llama_sampler_init_top_n_sigma(o.top_n_sigma));
    }
    if (o.top_k > 0 && o.top_k < o.n_vocab) {
        if (o.top_n_sigma <= 0.0f && o.top_k <= TOP_K_HEAP_MAX) {
            sampler.heap_k = o.top_k;
        } else {
            add(rest, llama_sampler_init_top_k(o.top_k));
        }
    }
    if (o.typical_p < 1.0f) {
        add(rest, llama_sampler_init_typical(o.typical_p, MIN_KEEP));
    }
    if (o.top_p < 1.0f) {
        add(rest, llama_sampler_init_top_p(o.top_p, MIN_KEEP));
    }
    if (o.min_p > 0.0f) {
        add(rest, llama_sampler_init_min_p(o.min_p, MIN_KEEP));
    }
    if (o.xtc_probability > 0.0f) {
        add(rest, llama_sampler_init_xtc(o.xtc_probability, o.xtc_threshold, MIN_KEEP, o.seed));
    }
}

static void build_choice(ml_sampler & sampler, const ml_sampler_options & o) {
    const chain & rest = sampler.rest;
    if (o.dynatemp_range > 0.0f && o.mirostat == 0) {
        add(rest, llama_sampler_init_temp_ext(o.temperature, o.dynatemp_range, o.dynatemp_exponent));
    } else if (o.temperature != 1.0f) {
        add(rest, llama_sampler_init_temp(o.temperature));
    }
    switch (o.mirostat) {
        case 1:  add(rest, llama_sampler_init_mirostat(o.n_vocab, o.seed, o.mirostat_tau, o.mirostat_eta, MIROSTAT_M)); break;
        case 2:  add(rest, llama_sampler_init_mirostat_v2(o.seed, o.mirostat_tau, o.mirostat_eta)); break;
        default: add(rest, llama_sampler_init_dist(o.seed)); break;
    }
}

static bool by_token(const changed_logit & a, const changed_logit & b) {
    return a.token < b.token;
}

void ml_sampler::apply_biases(const float * raw) {
    changed.clear();
    for (const auto & bias : biases) {
        const size_t token = (size_t) bias.token;
        if (changed.empty() || changed.back().token != token) {
            changed.push_back({ token, raw[token] });
        }
        changed.back().logit += bias.bias;
    }
}

// Runs the penalties on the recent tokens, including their biases, and stores the results among the changed logits.
void ml_sampler::apply_penalties(const float * raw) {
    if (recent.counts.empty()) {
        return;
    }
    std::swap(biased, changed);
    candidates.clear();
    for (const auto & entry : recent.counts) {
        const size_t token = (size_t) entry.first;
        const auto   bias  = std::lower_bound(biased.begin(), biased.end(), changed_logit{ token, 0.0f }, by_token);
        const bool   found = bias != biased.end() && bias->token == token;
        candidates.push_back({ entry.first, found ? bias->logit : raw[token], 0.0f });
    }
    if (penalties) {
        llama_token_data_array array = { candidates.data(), candidates.size(), -1, false };
        llama_sampler_apply(penalties.get(), &array);
    }
    if (dry) {
        dry->apply(recent, candidates);
    }
    std::sort(candidates.begin(), candidates.end(), [](const auto & a, const auto & b) { return a.id < b.id; });
    changed.clear();
    auto bias = biased.begin();
    for (const auto & candidate : candidates) {
        const changed_logit penalised = { (size_t) candidate.id, candidate.logit };
        for (; bias != biased.end() && bias->token <= penalised.token; ++bias) {
            if (bias->token < penalised.token) {
                changed.push_back(*bias);
            }
        }
        changed.push_back(penalised);
    }
    changed.insert(changed.end(), bias, biased.end());
}

ml_sampled ml_sampler::sample(const float * raw, int32_t & token) {
    apply_biases(raw);
    apply_penalties(raw);
    const logits_view view = { raw, n_vocab, changed };
    bool sorted = false;
    if (heap_k > 0) {
        if (!find_top_k(view, (size_t) heap_k, candidates) || !std::isfinite(candidates[0].logit)) {
            return ML_SAMPLED_NON_FINITE;
        }
        sorted = true;
    } else {
        const auto best = find_likeliest(view);
        if (best.nan || !std::isfinite(best.logit)) {
            return ML_SAMPLED_NON_FINITE;
        }
        if (greedy) {
            token = (int32_t) best.index;
            return ML_SAMPLED_TOKEN;
        }
        candidates.resize(n_vocab);
        for (size_t i = 0; i < n_vocab; ++i) {
            candidates[i] = { (llama_token) i, raw[i], 0.0f };
        }
        for (const auto & entry : changed) {
            candidates[entry.token].logit = entry.logit;
        }
    }
    llama_token_data_array array = { candidates.data(), candidates.size(), -1, sorted };
    llama_sampler_apply(rest.get(), &array);
    if (array.selected < 0 || (size_t) array.selected >= array.size) {
        return ML_SAMPLED_NOTHING;
    }
    const auto & chosen = array.data[array.selected];
    // A temperature near zero overflows the scaled logits, and llama.cpp then takes the last candidate. The most likely
    // token is used instead, as such a low temperature requires.
    token = std::isnan(chosen.p) ? (int32_t) find_likeliest(view).index : chosen.id;
    return ML_SAMPLED_TOKEN;
}

void ml_sampler::accept(int32_t token) {
    if (penalties) {
        llama_sampler_accept(penalties.get(), token);
    }
    // Without penalties and DRY its capacity is 0, and it stores nothing.
    recent.push(token);
    if (rest) {
        llama_sampler_accept(rest.get(), token);
    }
}

int32_t mullama_sampler_new(const llama_vocab * vocab, const ml_sampler_options * options, ml_sampler ** out) {
    *out = nullptr;
    return guarded([&] {
        auto sampler     = std::make_unique<ml_sampler>();
        sampler->n_vocab = (size_t) options->n_vocab;
        sampler->greedy  = options->greedy;
        if (options->n_logit_bias > 0) {
            sampler->biases.assign(options->logit_bias, options->logit_bias + options->n_logit_bias);
            // Several biases of one token are added up in the order in which they were given.
            std::stable_sort(sampler->biases.begin(), sampler->biases.end(), [](const auto & a, const auto & b) { return a.token < b.token; });
        }
        build_penalties(*sampler, vocab, *options);
        if (!options->greedy) {
            sampler->rest = new_chain();
            // Mirostat truncates by itself; llama.cpp puts only the temperature before it.
            if (options->mirostat == 0) {
                build_truncation(*sampler, *options);
            }
            build_choice(*sampler, *options);
        }
        *out = sampler.release();
    });
}

void mullama_sampler_free(ml_sampler * sampler) {
    guarded([&] { delete sampler; });
}

// Frees what only speeds up the next token: without a top-k, 12 bytes for each token of the vocabulary.
void mullama_sampler_trim(ml_sampler * sampler) {
    guarded([&] { std::vector<llama_token_data>().swap(sampler->candidates); });
}

int32_t mullama_sampler_sample(ml_sampler * sampler, const float * logits, int32_t * token, int32_t * sampled) {
    return guarded([&] {
        *sampled = sampler->sample(logits, *token);
        if (*sampled == ML_SAMPLED_TOKEN) {
            sampler->accept(*token);
        }
    });
}

int32_t mullama_sampler_accept(ml_sampler * sampler, int32_t token) {
    return guarded([&] { sampler->accept(token); });
}

int32_t mullama_sampler_reset(ml_sampler * sampler) {
    return guarded([&] {
        sampler->recent.clear();
        if (sampler->penalties) {
            llama_sampler_reset(sampler->penalties.get());
        }
        if (sampler->rest) {
            llama_sampler_reset(sampler->rest.get());
        }
    });
}
