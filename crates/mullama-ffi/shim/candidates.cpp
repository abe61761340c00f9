// Scans logits in blocks that the compiler turns into the widest vectors of the target.

#include "candidates.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace mullama {

namespace {

// One register of the target; wider vectors than it has are taken apart element by element.
#if defined(__AVX__)
constexpr size_t LANES = 8;
#else
constexpr size_t LANES = 4;
#endif
typedef float   floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t masks  __attribute__((vector_size(LANES * sizeof(int32_t))));

// What is looked at between two branches: long enough to keep the loads going.
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

bool by_logit(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit;
}

size_t first_equal(const float * logits, size_t n, float wanted) {
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        masks equal = {};
        for (size_t part = 0; part < UNROLL; ++part) {
            equal |= load(logits + i + part * LANES) == wanted;
        }
        if (any(equal)) {
            break;
        }
    }
    while (i < n && logits[i] != wanted) {
        ++i;
    }
    return i;
}

// The running top k: a heap whose front is the smallest, with one place behind it for the element that replaces the front.
// make_heap, pop_heap and sort_heap are the steps of std::partial_sort, so that equals end in the same order.
struct top_heap {
    std::vector<llama_token_data> & data;
    size_t                          k;

    top_heap(std::vector<llama_token_data> & data, const float * logits, size_t k) : data(data), k(k) {
        data.resize(k + 1);
        for (size_t i = 0; i < k; ++i) {
            data[i] = { (llama_token) i, logits[i], 0.0f };
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

likeliest find_likeliest(const float * logits, size_t n) {
    floats largest[UNROLL];
    masks  nan = {};
    for (auto & lanes : largest) {
        lanes = floats{} - INFINITY;
    }
    size_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        for (size_t part = 0; part < UNROLL; ++part) {
            const floats lanes = load(logits + i + part * LANES);
            largest[part] = lanes > largest[part] ? lanes : largest[part];
            nan |= lanes != lanes;
        }
    }
    float max     = -INFINITY;
    bool  has_nan = any(nan);
    for (const auto & lanes : largest) {
        for (size_t lane = 0; lane < LANES; ++lane) {
            max = std::max(max, lanes[lane]);
        }
    }
    for (; i < n; ++i) {
        max = std::max(max, logits[i]);
        has_nan |= std::isnan(logits[i]);
    }
    if (has_nan) {
        return { 0, max, true };
    }
    return { first_equal(logits, n, max), max, false };
}

bool find_top_k(const float * logits, size_t n, size_t k, std::vector<llama_token_data> & out) {
    top_heap heap(out, logits, k);

    masks nan     = {};
    bool  has_nan = false;
    for (size_t i = 0; i < k; ++i) {
        has_nan |= std::isnan(logits[i]);
    }
    size_t i = k;
    for (; i + BLOCK <= n; i += BLOCK) {
        masks larger = {};
        for (size_t part = 0; part < UNROLL; ++part) {
            const floats lanes = load(logits + i + part * LANES);
            larger |= lanes > heap.smallest();
            nan |= lanes != lanes;
        }
        if (any(larger)) {
            for (size_t at = i; at < i + BLOCK; ++at) {
                heap.offer(at, logits[at]);
            }
        }
    }
    for (; i < n; ++i) {
        has_nan |= std::isnan(logits[i]);
        heap.offer(i, logits[i]);
    }
    heap.finish();
    return !(has_nan || any(nan));
}

} // namespace mullama
