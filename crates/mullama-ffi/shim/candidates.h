// Picks the likeliest tokens straight from the logits, without first building a candidate for each token.
#pragma once

#include "llama.h"

#include <cstddef>
#include <vector>

namespace mullama {

struct likeliest {
    size_t index; // the first of equals, as llama.cpp's greedy sampler has it
    float  logit;
    bool   nan;   // some logit is not a number; the rest of this means nothing then
};

likeliest find_likeliest(const float * logits, size_t n);

// Leaves in `out` what llama.cpp's top-k sampler leaves: the k largest in descending order, equals in the same order as
// its std::partial_sort (k must be below n). Returns false if some logit is not a number.
bool find_top_k(const float * logits, size_t n, size_t k, std::vector<llama_token_data> & out);

} // namespace mullama
