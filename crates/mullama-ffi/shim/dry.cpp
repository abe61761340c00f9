// Finds repetitions at the end of the text, and where a sequence breaker ends the search for them.

#include "dry.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace mullama {

namespace {

// As in llama.cpp, at most this many tokens after the first token of a breaker are compared.
constexpr size_t MAX_TAIL_TOKENS = 20;
// The logarithm of the largest float; a larger exponent would make the penalty infinite.
constexpr float FLOAT_MAX_LOG = 88.7228391f;

// The text of a token, with control tokens spelled out.
std::string text_of(const llama_vocab * vocab, int32_t token) {
    std::string text(32, '\0');
    int32_t     length = llama_detokenize(vocab, &token, 1, &text[0], (int32_t) text.size(), false, true);
    if (length < 0) {
        text.resize((size_t) -length);
        length = llama_detokenize(vocab, &token, 1, &text[0], (int32_t) text.size(), false, true);
    }
    text.resize((size_t) std::max(length, 0));
    return text;
}

} // namespace

void recent_tokens::push(int32_t token) {
    if (capacity == 0) {
        return;
    }
    if (ring.size() < capacity) {
        ring.push_back(token);
    } else {
        const auto oldest = counts.find(ring[next]);
        if (--oldest->second == 0) {
            counts.erase(oldest);
        }
        ring[next] = token;
        next       = (next + 1) % capacity;
    }
    ++counts[token];
}

void recent_tokens::clear() {
    next = 0;
    ring.clear();
    counts.clear();
}

dry_penalty::dry_penalty(const llama_vocab * vocab, dry_options given) : vocab(vocab), options(std::move(given)), tails(options.breakers.size()) {
    for (size_t breaker = 0; breaker < options.breakers.size(); ++breaker) {
        by_first_byte[(uint8_t) options.breakers[breaker][0]].push_back(breaker);
    }
}

// The tokens of the remainder of a breaker after its first bytes.
const dry_penalty::tokens & dry_penalty::tail(size_t breaker, size_t bytes) {
    const auto entry = tails[breaker].find(bytes);
    if (entry != tails[breaker].end()) {
        return entry->second;
    }
    const std::string text = options.breakers[breaker].substr(bytes);
    // A token stands for at least one byte, except for a space that is put before the text.
    tokens        result(text.size() + 2);
    const int32_t count = llama_tokenize(vocab, text.data(), (int32_t) text.size(), result.data(), (int32_t) result.size(), false, false);
    if (count < 0) {
        throw std::runtime_error("a DRY sequence breaker has more tokens than bytes");
    }
    result.resize(std::min((size_t) count, MAX_TAIL_TOKENS));
    return tails[breaker].emplace(bytes, std::move(result)).first->second;
}

// A breaker that is entirely inside a token breaks there. If only its first bytes are at the end of the token, it
// breaks where the remainder follows.
const dry_penalty::tail_tree & dry_penalty::tails_of(int32_t token) {
    const auto known = trees.find(token);
    if (known != trees.end()) {
        return known->second;
    }
    const std::string word = text_of(vocab, token);
    std::vector<std::pair<size_t, size_t>> prefixes;
    std::vector<bool>                      whole(options.breakers.size(), false);
    tail_tree                              tree(1);
    for (size_t at = 0; at < word.size(); ++at) {
        for (const size_t breaker : by_first_byte[(uint8_t) word[at]]) {
            const std::string & text  = options.breakers[breaker];
            const size_t        bytes = std::min(text.size(), word.size() - at);
            if (word.compare(at, bytes, text, 0, bytes) != 0) {
                continue;
            }
            if (bytes == text.size()) {
                whole[breaker] = tree[0].ends = true;
            } else {
                prefixes.emplace_back(breaker, bytes);
            }
        }
    }
    for (const auto & prefix : prefixes) {
        if (whole[prefix.first]) {
            continue;
        }
        size_t node = 0;
        for (const int32_t following : tail(prefix.first, prefix.second)) {
            const auto added = tree[node].next.emplace(following, tree.size());
            node = added.first->second;
            if (added.second) {
                tree.emplace_back();
            }
        }
        tree[node].ends = true;
    }
    return trees.emplace(token, std::move(tree)).first->second;
}

// How many of the last `n` tokens follow the last breaker; of two breakers that start at the same token, the longer one
// counts.
size_t dry_penalty::since_breaker(const recent_tokens & recent, size_t n) {
    for (size_t age = 0; age < n; ++age) {
        const tail_tree & tree = tails_of(recent.before_last(age));
        size_t            node = 0;
        bool              ends = tree[0].ends;
        size_t            left = age;
        for (size_t younger = age; younger > 0; --younger) {
            const auto next = tree[node].next.find(recent.before_last(younger - 1));
            if (next == tree[node].next.end()) {
                break;
            }
            node = next->second;
            if (tree[node].ends) {
                ends = true;
                left = younger - 1;
            }
        }
        if (ends) {
            return left;
        }
    }
    return n;
}

// The Z-algorithm, backwards from the end of the text: the `repeats[age]` tokens up to the one of that age are equal to
// the last tokens of the text. At most `limit`, which a breaker sets. Linear: `begin` and `end` are the bounds of the
// repetition that reaches furthest back, and the values inside it are known from its copy at the end of the text.
void dry_penalty::count_repeats(const recent_tokens & recent, size_t n, size_t limit) {
    repeats.assign(n, 0);
    size_t begin = 0;
    size_t end   = 0;
    for (size_t age = 1; age < n; ++age) {
        size_t known = 0;
        if (age < end) {
            known = repeats[age - begin];
            if (known < end - age) {
                repeats[age] = std::min(known, limit);
                continue;
            }
            known = end - age;
        }
        while (age + known < n && recent.before_last(known) == recent.before_last(age + known)) {
            ++known;
        }
        repeats[age] = std::min(known, limit);
        if (known > 0) {
            begin = age;
            end   = age + known;
        }
    }
}

void dry_penalty::apply(const recent_tokens & recent, std::vector<llama_token_data> & candidates) {
    const size_t n       = std::min(recent.ring.size(), (size_t) options.penalty_last_n);
    const size_t allowed = (size_t) options.allowed_length;
    if (n <= allowed) {
        return;
    }
    const size_t limit = since_breaker(recent, n);
    if (limit < allowed) {
        return;
    }
    count_repeats(recent, n, limit);
    longest.clear();
    for (size_t age = 1; age < n; ++age) {
        // The token that followed there would continue the repetition here.
        if (repeats[age] >= allowed) {
            size_t & length = longest[recent.before_last(age - 1)];
            length          = std::max(length, repeats[age]);
        }
    }
    const size_t largest = options.base > 1.000001f ? (size_t) (FLOAT_MAX_LOG / std::log(options.base)) : 0;
    for (auto & candidate : candidates) {
        const auto found = longest.find(candidate.id);
        if (found == longest.end() || tails_of(candidate.id)[0].ends) {
            continue;
        }
        size_t exponent = found->second - allowed;
        if (largest > 0) {
            exponent = std::min(exponent, largest);
        }
        candidate.logit -= options.multiplier * std::pow(options.base, (float) exponent);
    }
}

} // namespace mullama
