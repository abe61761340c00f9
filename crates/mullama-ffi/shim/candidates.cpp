// Scans logits in blocks that the compiler turns into the widest vectors of the target.

#include "candidates.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace mullama {

namespace {

// GCC and clang lower this to whatever the target has: two AVX-512 registers, four of AVX2, eight of SSE or NEON.
constexpr size_t LANES = 32;
typedef float   floats __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));
typedef int32_t masks  __attribute__((vector_size(LANES * sizeof(int32_t))));

void load(floats & lanes, const float * from) {
    std::memcpy(&lanes, from, sizeof(floats));
}

bool any(const masks & mask) {
    uint64_t words[sizeof(masks) / sizeof(uint64_t)];
    std::memcpy(words, &mask, sizeof(masks));
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
    for (; i + LANES <= n; i += LANES) {
        floats block;
        load(block, logits + i);
        if (any(block == wanted)) {
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
    floats largest = {};
    largest -= INFINITY;
    masks  nan = {};
    size_t i   = 0;
    for (; i + LANES <= n; i += LANES) {
        floats block;
        load(block, logits + i);
        largest = block > largest ? block : largest;
        nan |= block != block;
    }
    float max     = -INFINITY;
    bool  has_nan = any(nan);
    for (size_t lane = 0; lane < LANES; ++lane) {
        max = std::max(max, largest[lane]);
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

    masks  nan     = {};
    bool   has_nan = false;
    for (size_t i = 0; i < k; ++i) {
        has_nan |= std::isnan(logits[i]);
    }
    size_t i = k;
    for (; i + LANES <= n; i += LANES) {
        floats block;
        load(block, logits + i);
        nan |= block != block;
        if (any(block > heap.smallest())) {
            for (size_t lane = 0; lane < LANES; ++lane) {
                heap.offer(i + lane, logits[i + lane]);
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
