//! The rows of a step are sampled on any number of threads, with the same tokens.

use mullama::StreamConfig;
use mullama::testing::SamplingRows;

#[test]
fn any_number_of_threads_samples_the_same_tokens() {
    let config =
        StreamConfig::new().repeat_penalty(1.3).logit_bias(vec![(5, 2.0), (700, f32::NEG_INFINITY)]).logprobs(0);
    let rows = || SamplingRows::new(33, 1_000, &config).unwrap();
    let steps = |threads: usize| -> Vec<_> {
        let mut rows = rows();
        (0..40).map(|_| rows.sample(threads).unwrap()).collect()
    };
    let alone = steps(1);
    assert_eq!(alone.concat().len(), 40 * 33);
    for threads in [2, 3, 8, 64] {
        assert_eq!(steps(threads), alone, "on {threads} threads");
    }
}
