// The DRY penalty: a token that would continue a repetition of earlier text is penalized, the more the longer the
// repetition.
//
// The algorithm and its results are llama.cpp's (llama_sampler_init_dry). The difference is how sequence breakers are
// found: llama.cpp compares every token of the vocabulary with every breaker before the first token is sampled, which
// takes up to ten seconds and hundreds of megabytes. Here a token is compared when it first occurs.
#pragma once

#include "llama.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace mullama {

// The last few tokens of a stream, and how often each occurs among them.
struct recent_tokens {
    size_t                           capacity = 0;
    size_t                           next     = 0;
    std::vector<int32_t>             ring;
    std::unordered_map<int32_t, int> counts;

    void push(int32_t token);
    void clear();

    // The token that came `age` tokens before the last one.
    int32_t before_last(size_t age) const {
        const size_t n = ring.size();
        return ring[(next + 2 * n - age - 1) % n];
    }
};

struct dry_options {
    float                    multiplier;
    float                    base;
    int32_t                  allowed_length;
    int32_t                  penalty_last_n;
    std::vector<std::string> breakers; // none is empty
};

class dry_penalty {
public:
    dry_penalty(const llama_vocab * vocab, dry_options options);

    // Lowers the logits of the candidates that would continue a repetition.
    void apply(const recent_tokens & recent, std::vector<llama_token_data> & candidates);

private:
    using tokens = std::vector<int32_t>;

    // The token sequences that complete a breaker after some token, as a tree: node 0 is that token itself. At a node
    // where a breaker ends, nothing more is needed; that is node 0 if a breaker is entirely inside the token.
    struct tail_node {
        bool                                ends = false;
        std::unordered_map<int32_t, size_t> next;
    };
    using tail_tree = std::vector<tail_node>;

    const tail_tree & tails_of(int32_t token);
    const tokens &       tail(size_t breaker, size_t bytes);
    size_t               since_breaker(const recent_tokens & recent, size_t n);
    void                 count_repeats(const recent_tokens & recent, size_t n, size_t limit);

    const llama_vocab *                       vocab;
    dry_options                               options;
    std::array<std::vector<size_t>, 256>      by_first_byte;
    std::vector<std::unordered_map<size_t, tokens>> tails; // of each breaker, by the number of preceding bytes
    std::unordered_map<int32_t, tail_tree>    trees;       // of the tokens that have occurred
    std::vector<size_t>                       repeats;     // how many tokens up to this age repeat the end of the text
    std::unordered_map<int32_t, size_t>       longest;     // the longest repetition that a token would continue
};

} // namespace mullama
