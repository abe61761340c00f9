//! Finds how many threads a step runs best with, by trying.
//!
//! ggml's threads wait for each other by spinning. Where a reader or another process takes a core away, fewer threads
//! than cores are faster, often by far. Pure: it is told how long steps took and says how many threads the next one gets.
//!
//! Where so many threads wait for cores that a step would take many times its time, the backend says so, and the next
//! step has fewer at once: no trial is needed, nor steps of the same shape to compare. Times here are those of steps that
//! came to their end.
//!
//! A step grows longer with the texts, so a trial takes turns: the number in use, the other, the other, the number in
//! use. What grows evenly is then the same for both.

use std::time::Duration;

use mullama_ffi::Crowding;

/// Least time of a turn: a scheduler's slice lasts some milliseconds.
const TURN_TIME: Duration = Duration::from_millis(8);
/// The turns of a trial: whether the other number has it.
const TURNS: [bool; 4] = [false, true, true, false];
/// A number that is this much slower after its first turn has failed, and within a turn at once.
const SLOWER: f64 = 1.2;
const HOPELESS: f64 = 2.5;
/// The other number must be this much faster to be kept, in both halves of the trial.
const BETTER: f64 = 0.95;
/// Steps this much slower than when the number was chosen are a reason to try again soon.
const WORSE: f64 = 2.0;
/// Least time between two trials, in steps: a trial must cost little beside what lies between. The first one comes
/// early; after each failed one the next is this much farther. Where steps are long, time alone would let one follow
/// the other.
const APART: f64 = 8.0;
const FARTHER: f64 = 4.0;
const FAR_APART: f64 = 160.0;
/// Least and most time between two trials.
const SOON: Duration = Duration::from_millis(150);
const LATE: Duration = Duration::from_secs(4);
/// Steps after which a number's usual length is known. Fewer say little: where a core is shared, one step in some dozens
/// waits for a whole slice of the scheduler.
const KNOWN: u32 = 50;

/// Another number of threads on trial.
#[derive(Debug)]
struct Trial {
    threads: u32,
    /// Mean seconds of a step in the turns so far.
    turns: Vec<f64>,
    /// Whether this turn has had its first step. That one pays for the change, and a short one does not count.
    begun: bool,
    /// Steps of this turn that count.
    steps: u32,
    took: Duration,
}

impl Trial {
    fn is_others_turn(&self) -> bool {
        TURNS[self.turns.len()]
    }

    fn mean(&self) -> f64 {
        self.took.as_secs_f64() / f64::from(self.steps.max(1))
    }
}

/// The number of threads that steps of one shape run with.
#[derive(Debug)]
pub(crate) struct ThreadTuner {
    most: u32,
    threads: u32,
    /// Rows of the steps that are compared; other shapes are not.
    shape: usize,
    /// Mean of a step's seconds with `threads`.
    mean: f64,
    /// Steps in the mean, up to [`KNOWN`].
    seen: u32,
    /// `mean` when it was first known.
    usual: f64,
    since_trial: Duration,
    pause: Duration,
    /// The same in steps of the usual length; the longer of the two counts.
    apart: f64,
    trial: Option<Trial>,
    /// Whether threads were sent away because they waited for cores, and no trial has found a number since.
    short: bool,
    /// Time since threads last waited for cores.
    since_contended: Duration,
    /// Time since all were called back while prompts ran, without a trial.
    since_recalled: Duration,
    /// Which neighbour is tried next.
    turn: usize,
}

impl ThreadTuner {
    /// Begins with all threads.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            threads: most,
            shape: 0,
            mean: 0.0,
            seen: 0,
            usual: f64::INFINITY,
            since_trial: Duration::ZERO,
            pause: SOON,
            apart: APART,
            trial: None,
            short: false,
            since_contended: Duration::ZERO,
            since_recalled: LATE,
            turn: 0,
        }
    }

    /// How many threads the next step should have.
    pub(crate) fn threads(&self) -> u32 {
        let trial = self.trial.as_ref().filter(|trial| trial.is_others_turn());
        trial.map_or(self.threads, |trial| trial.threads)
    }

    /// A step with this many rows of running streams and of prompts took this long.
    pub(crate) fn learn(&mut self, rows: usize, prompt: usize, took: Duration) {
        self.since_contended = self.since_contended.saturating_add(took);
        self.since_recalled = self.since_recalled.saturating_add(took);
        if self.most == 1 {
            return;
        }
        if prompt > 0 {
            return self.recall();
        }
        if rows != self.shape {
            // Another number of rows is another length: a trial across the change would compare nothing.
            (self.shape, self.trial) = (rows, None);
            self.forget();
        }
        match self.trial.take() {
            Some(trial) => self.judge(trial, took),
            None => self.watch(took),
        }
    }

    /// Threads of the last step waited for cores: the next ones do without so many. They are tried again soon, but later
    /// and later while it is on their return that they wait.
    pub(crate) fn shrink(&mut self, crowding: Crowding) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let needless = (crowding.waiting.round() as u32).max(1);
        self.since_contended = Duration::ZERO;
        if self.trial.take().is_some_and(|trial| trial.is_others_turn() && trial.threads > self.threads) {
            // What the trial's number suffered says nothing against the one in use.
            return self.settle(false);
        }
        self.threads = self.threads.min(crowding.threads.saturating_sub(needless).max(1));
        (self.short, self.turn) = (true, 0);
        let returned = self.since_recalled < LATE;
        self.settle(!returned);
    }

    /// No two steps with prompts are alike, so nothing is compared; but where cores were short, all threads are called back
    /// in time, and go again if they still are.
    fn recall(&mut self) {
        if self.short && self.trial.is_none() && self.since_contended >= self.pause {
            (self.threads, self.short, self.since_recalled) = (self.most, false, Duration::ZERO);
            self.forget();
        }
    }

    fn watch(&mut self, took: Duration) {
        if self.seen < KNOWN {
            self.seen += 1;
        } else if self.usual.is_infinite() {
            self.usual = self.mean;
        }
        self.mean += (took.as_secs_f64() - self.mean) / f64::from(self.seen);
        let mean = self.mean;
        self.since_trial += took;
        let worse = mean > WORSE * self.usual;
        let due = if worse { SOON } else { self.pause.max(Duration::from_secs_f64(self.apart * mean)) };
        if self.since_trial >= due {
            let threads = self.neighbour();
            self.trial = Some(Trial { threads, turns: Vec::new(), begun: false, steps: 0, took: Duration::ZERO });
        }
    }

    /// The number to try next: one or some fewer, one or some more, by turns. Where threads were sent away, first and then
    /// every other time all of them: whoever took their cores may have gone.
    fn neighbour(&mut self) -> u32 {
        let now = self.threads;
        if self.short && self.turn.is_multiple_of(2) {
            self.turn += 1;
            return self.most;
        }
        let all = [now - 1, now + 1, now / 2, now * 2, now / 4].map(|n| n.clamp(1, self.most));
        let others: Vec<u32> = all.into_iter().filter(|&n| n != now).collect();
        self.turn += 1;
        others[self.turn % others.len()]
    }

    fn judge(&mut self, mut trial: Trial, took: Duration) {
        if std::mem::replace(&mut trial.begun, true) || took >= TURN_TIME {
            trial.steps += 1;
            trial.took += took;
        }
        let over = trial.took >= TURN_TIME;
        let bound = if over { SLOWER } else { HOPELESS };
        if trial.steps > 0 && trial.is_others_turn() && trial.mean() > bound * trial.turns[0] {
            return self.settle(false);
        }
        if over {
            trial.turns.push(trial.mean());
            (trial.begun, trial.steps, trial.took) = (false, 0, Duration::ZERO);
        }
        match trial.turns[..] {
            [before, first, second, after] => {
                let better = first < BETTER * before && second < BETTER * after;
                if better {
                    (self.threads, self.short) = (trial.threads, false);
                }
                self.settle(better);
            }
            _ => self.trial = Some(trial),
        }
    }

    /// A trial is over: the next one soon if things moved, else later and later.
    fn settle(&mut self, moved: bool) {
        self.since_trial = Duration::ZERO;
        (self.pause, self.apart) =
            if moved { (SOON, APART) } else { ((self.pause * 4).min(LATE), (self.apart * FARTHER).min(FAR_APART)) };
        self.forget();
    }

    /// What steps usually take is to be learnt anew.
    fn forget(&mut self) {
        (self.mean, self.seen, self.usual) = (0.0, 0, f64::INFINITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs steps for a while; `cost` says how long one lasts with so many threads. The share of time lost to trials.
    fn run(thread_tuner: &mut ThreadTuner, seconds: f64, cost: impl Fn(u32) -> f64) -> f64 {
        let best = (1..=thread_tuner.most).map(&cost).fold(f64::INFINITY, f64::min);
        let (mut spent, mut steps) = (0.0, 0.0);
        while spent < seconds {
            let took = cost(thread_tuner.threads());
            thread_tuner.learn(1, 0, Duration::from_secs_f64(took));
            spent += took;
            steps += 1.0;
        }
        1.0 - steps * best / spent
    }

    #[test]
    fn on_a_quiet_machine_all_threads_stay_though_steps_grow_with_the_text() {
        let mut thread_tuner = ThreadTuner::new(2);
        let lost = run(&mut thread_tuner, 10.0, |threads| 0.001 / f64::from(threads));
        assert_eq!(thread_tuner.threads, 2);
        assert!(lost < 0.03, "{lost}");
        // Texts of 256 tokens, one after the other; a step of the last costs twice one of the first.
        for step in 0..60_000_u32 {
            let grown = 1.0 + f64::from(step % 256) / 256.0;
            thread_tuner.learn(
                1,
                0,
                Duration::from_secs_f64(0.0005 * grown / f64::from(thread_tuner.threads()).sqrt()),
            );
            assert_eq!(thread_tuner.threads, 2, "step {step}");
        }
    }

    #[test]
    fn where_a_core_is_taken_fewer_threads_are_found_and_kept() {
        for (most, left) in [(2, 1), (4, 3), (8, 7), (8, 3), (16, 12)] {
            let mut thread_tuner = ThreadTuner::new(most);
            let alone = |threads: u32| 0.004 / f64::from(threads);
            run(&mut thread_tuner, 2.0, alone);
            let lost = run(&mut thread_tuner, 30.0, |threads| if threads > left { 0.02 } else { alone(threads) });
            assert!(thread_tuner.threads <= left, "{} of {left} and {most}", thread_tuner.threads);
            assert!(lost < 0.4, "{lost} of the time with {left} of {most}");
        }
    }

    fn shrink(thread_tuner: &mut ThreadTuner, waiting: f64) {
        let threads = thread_tuner.threads();
        thread_tuner.shrink(Crowding { waiting, threads });
    }

    #[test]
    fn threads_that_wait_for_cores_go_at_once() {
        for (most, waiting, left) in [(2, 1.0, 1), (8, 1.2, 7), (8, 4.1, 4), (4, 30.0, 1), (2, 0.85, 1), (16, 8.0, 8)] {
            let mut thread_tuner = ThreadTuner::new(most);
            shrink(&mut thread_tuner, waiting);
            assert_eq!(thread_tuner.threads(), left, "{waiting} of {most} next");
        }
    }

    #[test]
    fn a_step_with_fewer_threads_than_all_is_what_threads_are_taken_from() {
        let mut thread_tuner = ThreadTuner::new(16);
        thread_tuner.shrink(Crowding { waiting: 1.0, threads: 4 });
        assert_eq!(thread_tuner.threads(), 3);
    }

    #[test]
    fn threads_that_went_are_back_soon_once_cores_are_free_however_many_there_were() {
        for most in [2, 8, 16, 64] {
            let mut thread_tuner = ThreadTuner::new(most);
            let cost = |threads: u32| 0.02 / f64::from(threads);
            // Trials have become rare.
            run(&mut thread_tuner, 60.0, cost);
            shrink(&mut thread_tuner, 0.9 * f64::from(most));
            run(&mut thread_tuner, 1.0, cost);
            assert_eq!(thread_tuner.threads(), most);
        }
    }

    #[test]
    fn where_some_cores_are_free_threads_climb_to_their_number() {
        let mut thread_tuner = ThreadTuner::new(16);
        shrink(&mut thread_tuner, 13.0);
        assert_eq!(thread_tuner.threads, 3);
        let mut spent = 0.0;
        while spent < 60.0 {
            // Twelve of sixteen cores are free; the backend ends a step that has more threads than that.
            let threads = thread_tuner.threads();
            if threads > 13 {
                shrink(&mut thread_tuner, f64::from(threads - 12));
                spent += 0.05;
            } else {
                let took = 0.02 / f64::from(threads.min(12));
                thread_tuner.learn(1, 0, Duration::from_secs_f64(took));
                spent += took;
            }
        }
        assert!((8..=13).contains(&thread_tuner.threads), "{}", thread_tuner.threads);
    }

    #[test]
    fn a_trial_whose_threads_wait_for_cores_is_over_and_the_next_one_later() {
        let mut thread_tuner = ThreadTuner::new(2);
        shrink(&mut thread_tuner, 1.0);
        let tried = |thread_tuner: &mut ThreadTuner| {
            let learn = |_: &i32| {
                thread_tuner.learn(1, 0, Duration::from_millis(2));
                thread_tuner.threads() == 2
            };
            let steps = (1..100_000).find(learn);
            shrink(thread_tuner, 1.0);
            assert_eq!(thread_tuner.threads(), 1);
            steps.expect("it is tried")
        };
        let steps = [(); 6].map(|()| tried(&mut thread_tuner));
        assert!(steps.is_sorted() && steps[0] < 100 && steps[5] > 1_000, "{steps:?}");
    }

    #[test]
    fn prompts_too_call_back_the_threads_that_went_later_each_time_they_go_again() {
        let mut thread_tuner = ThreadTuner::new(4);
        let away = |thread_tuner: &mut ThreadTuner| {
            shrink(thread_tuner, 3.0);
            let back = |_: &i32| {
                thread_tuner.learn(0, 30, Duration::from_millis(10));
                thread_tuner.threads() == 4
            };
            (1..1_000).find(back)
        };
        let steps = [(); 7].map(|()| away(&mut thread_tuner));
        assert_eq!(steps, [15, 60, 240, 400, 400, 400, 400].map(Some), "from soon to late");
        (0..1_000).for_each(|_| thread_tuner.learn(0, 30, Duration::from_millis(10)));
        assert_eq!(away(&mut thread_tuner), Some(15), "after a good time it is news");
    }

    #[test]
    fn prompts_call_back_nobody_whom_a_trial_sent_away() {
        let mut thread_tuner = ThreadTuner::new(8);
        let cost = |threads: u32| if threads > 3 { 0.02 } else { 0.004 / f64::from(threads) };
        for crowded in [false, true] {
            if crowded {
                shrink(&mut thread_tuner, 1.0);
            }
            run(&mut thread_tuner, 60.0, cost);
            let found = thread_tuner.threads;
            assert!(found <= 3, "{found}");
            (0..1_000).for_each(|_| thread_tuner.learn(0, 30, Duration::from_millis(10)));
            assert_eq!(thread_tuner.threads, found, "what a trial found stays");
        }
    }

    #[test]
    fn when_the_core_is_free_again_the_threads_come_back() {
        let mut thread_tuner = ThreadTuner::new(4);
        run(&mut thread_tuner, 5.0, |threads| if threads > 1 { 0.02 } else { 0.004 });
        run(&mut thread_tuner, 15.0, |threads| 0.004 / f64::from(threads));
        assert_eq!(thread_tuner.threads, 4);
    }
}
