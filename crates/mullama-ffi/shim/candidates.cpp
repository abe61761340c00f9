// Scans logits in blocks that the compiler turns into the widest vectors of the target.

#include "candidates.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace mullama {

namespace {

// One register of the target; the compiler splits wider vectors element by element.
#if defined(__AVX__)
constexpr size_t LANES = 8;
#else
constexpr size_t LANES = 4;
#endif
typedef float   floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t masks  __attribute__((vector_size(LANES * sizeof(int32_t))));

// The number of logits scanned between two branches: long enough to keep the loads going.
constexpr size_t UNROLL = 4;
constexpr size_t BLOCK  = LANES * UNROLL;

floats load(const float * from) {
    floats lanes;
    std::memcpy(&lanes, from, sizeof(lanes));
    return lanes;
}

bool any(const masks & mask) {
    uint64_t words[sizeof(masks) / sizeof(uint64_t)];
    std::memcpy(words, &mask, sizeof(mask));
    uint64_t all = 0;
    for (const uint64_t word : words) {
        all |= word;
    }
    return all != 0;
}

// An object, because the standard library does not inline a function that it is given by its address.
constexpr auto by_logit = [](const llama_token_data & a, const llama_token_data & b) { return a.logit > b.logit; };

// Calls `unchanged(from, to)` for each range of logits that still have the model's values, from `begin` on, and
// `changed(token, logit)` for each one between them, in the order of the tokens. Either stops the scan by returning
// true.
template <typename Unchanged, typename Changed>
void walk(const logits_view & view, size_t begin, Unchanged && unchanged, Changed && changed) {
    const auto before = [](const changed_logit & entry, size_t token) { return entry.token < token; };
    auto       next   = std::lower_bound(view.changed.begin(), view.changed.end(), begin, before);
    size_t     from   = begin;
    for (; next != view.changed.end(); ++next) {
        if ((from < next->token && unchanged(from, next->token)) || changed(next->token, next->logit)) {
            return;
        }
        from = next->token + 1;
    }
    if (from < view.n) {
        unchanged(from, view.n);
    }
}

// The first index from `from` to below `to` with the wanted logit, or `to`.
size_t first_equal(const float * logits, size_t from, size_t to, float wanted) {
    size_t i = from;
    for (; i + BLOCK <= to; i += BLOCK) {
        masks equal = {};
        for (size_t part = 0; part < UNROLL; ++part) {
            equal |= load(logits + i + part * LANES) == wanted;
        }
        if (any(equal)) {
            break;
        }
    }
    while (i < to && logits[i] != wanted) {
        ++i;
    }
    return i;
}

// The largest of the scanned logits, and whether one of them was not a number.
struct maximum {
    floats largest[UNROLL];
    masks  nans    = {};
    float  single  = -INFINITY;
    bool   has_nan = false;

    maximum() {
        for (auto & lanes : largest) {
            lanes = floats{} - INFINITY;
        }
    }

    void add(float logit) {
        single = std::max(single, logit);
        has_nan |= std::isnan(logit);
    }

    void add(const float * logits, size_t from, size_t to) {
        size_t i = from;
        for (; i + BLOCK <= to; i += BLOCK) {
            for (size_t part = 0; part < UNROLL; ++part) {
                const floats lanes = load(logits + i + part * LANES);
                largest[part] = lanes > largest[part] ? lanes : largest[part];
                nans |= lanes != lanes;
            }
        }
        for (; i < to; ++i) {
            add(logits[i]);
        }
    }

    float value() const {
        float max = single;
        for (const auto & lanes : largest) {
            for (size_t lane = 0; lane < LANES; ++lane) {
                max = std::max(max, lanes[lane]);
            }
        }
        return max;
    }

    bool nan() const {
        return has_nan || any(nans);
    }
};

// The running top k: a heap whose front is the smallest, with one extra element at the end for the one that replaces
// the front. make_heap, pop_heap and sort_heap are the steps of std::partial_sort, so that equal logits end up in the
// same order.
struct top_heap {
    std::vector<llama_token_data> & data;
    size_t                          k;

    top_heap(std::vector<llama_token_data> & data, const logits_view & view, size_t k) : data(data), k(k) {
        data.resize(k + 1);
        for (size_t i = 0; i < k; ++i) {
            data[i] = { (llama_token) i, view.logits[i], 0.0f };
        }
        for (const auto & entry : view.changed) {
            if (entry.token < k) {
                data[entry.token].logit = entry.logit;
            }
        }
        std::make_heap(data.begin(), data.begin() + k, by_logit);
    }

    float smallest() const {
        return data[0].logit;
    }

    void offer(size_t token, float logit) {
        if (logit > smallest()) {
            data[k] = { (llama_token) token, logit, 0.0f };
            std::pop_heap(data.begin(), data.end(), by_logit);
        }
    }

    void finish() {
        data.pop_back();
        std::sort_heap(data.begin(), data.end(), by_logit);
    }
};

} // namespace

likeliest find_likeliest(const logits_view & view) {
    maximum max;
    walk(
        view, 0,
        [&](size_t from, size_t to) {
            max.add(view.logits, from, to);
            return false;
        },
        [&](size_t, float logit) {
            max.add(logit);
            return false;
        });
    const float wanted = max.value();
    if (max.nan()) {
        return { 0, wanted, true };
    }
    size_t first = 0;
    walk(
        view, 0,
        [&](size_t from, size_t to) {
            first = first_equal(view.logits, from, to, wanted);
            return first < to;
        },
        [&](size_t token, float logit) {
            first = token;
            return logit == wanted;
        });
    return { first, wanted, false };
}

bool find_top_k(const logits_view & view, size_t k, std::vector<llama_token_data> & out) {
    top_heap heap(out, view, k);

    masks nans    = {};
    bool  has_nan = std::any_of(out.begin(), out.begin() + k, [](const auto & entry) { return std::isnan(entry.logit); });
    walk(
        view, k,
        [&](size_t from, size_t to) {
            const float * logits = view.logits;
            size_t i = from;
            for (; i + BLOCK <= to; i += BLOCK) {
                masks larger = {};
                for (size_t part = 0; part < UNROLL; ++part) {
                    const floats lanes = load(logits + i + part * LANES);
                    larger |= lanes > heap.smallest();
                    nans |= lanes != lanes;
                }
                if (any(larger)) {
                    for (size_t at = i; at < i + BLOCK; ++at) {
                        heap.offer(at, logits[at]);
                    }
                }
            }
            for (; i < to; ++i) {
                has_nan |= std::isnan(logits[i]);
                heap.offer(i, logits[i]);
            }
            return false;
        },
        [&](size_t token, float logit) {
            has_nan |= std::isnan(logit);
            heap.offer(token, logit);
            return false;
        });
    heap.finish();
    return !(has_nan || any(nans));
}

} // namespace mullama
