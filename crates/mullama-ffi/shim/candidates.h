// Picks the likeliest tokens straight from the logits, without first building a candidate for each token.
#pragma once

#include "llama.h"

#include <cstddef>
#include <vector>

namespace mullama {

// A token whose logit differs from the model's: it has a bias, or a penalty.
struct changed_logit {
    size_t token;
    float  logit;
};

// The logits of one decode, as the model left them, and the few that differ. `changed` is sorted by token, without
// duplicates: nothing is copied, and the model's logits stay as they are.
struct logits_view {
    const float *                      logits;
    size_t                             n;
    const std::vector<changed_logit> & changed;
};

struct likeliest {
    size_t index; // the first of equals, as llama.cpp's greedy sampler has it
    float  logit;
    bool   nan;   // some logit is not a number; the rest of this means nothing then
};

likeliest find_likeliest(const logits_view & view);

// Leaves in `out` what llama.cpp's top-k sampler leaves: the k largest in descending order, equals in the same order as
// its std::partial_sort (k must be below n). Returns false if some logit is not a number.
bool find_top_k(const logits_view & view, size_t k, std::vector<llama_token_data> & out);

} // namespace mullama
