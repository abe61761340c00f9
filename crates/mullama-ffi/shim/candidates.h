// Picks the most likely tokens directly from the logits, without first building a candidate for each token.
#pragma once

#include "llama.h"

#include <cstddef>
#include <vector>

namespace mullama {

// A token whose logit differs from the model's, because it has a bias or a penalty.
struct changed_logit {
    size_t token;
    float  logit;
};

// The logits of one decode, unmodified, and the few that differ. `changed` is sorted by token, without
// duplicates: nothing is copied, and the model's logits are not written to.
struct logits_view {
    const float *                      logits;
    size_t                             n;
    const std::vector<changed_logit> & changed;
};

struct likeliest {
    size_t index; // the first of equal ones, as in llama.cpp's greedy sampler
    float  logit;
    bool   nan;   // some logit is not a number; the other fields are then meaningless
};

likeliest find_likeliest(const logits_view & view);

// Fills `out` like llama.cpp's top-k sampler: the k largest in descending order, equal ones in the same order as
// its std::partial_sort (k must be below n). Returns false if some logit is not a number.
bool find_top_k(const logits_view & view, size_t k, std::vector<llama_token_data> & out);

} // namespace mullama
